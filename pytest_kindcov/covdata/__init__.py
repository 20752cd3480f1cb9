"""Go's coverage formats in pure Python and numpy: read, merged, written; no Go needed.

From top to bottom: `store` reads directories and names what is wrong with them; `profile` is the
text profile, of one program or many; `totals` adds up counter files; `counters`, `meta` and
`memory` read one `covcounters` file, one `covmeta` file, the memory of one process; `model` says
what they hold, and merges and subtracts it; `paths` finds the source files in a repository. Usable
without pytest and without a cluster:

    store.read(["covdata/"]).profile()
"""
