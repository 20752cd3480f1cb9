"""Go's coverage formats in pure Python and numpy: read, merged, written; no Go needed."""
