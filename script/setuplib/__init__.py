"""What `script/demo` and `script/test` need on a machine: found, or installed, never guessed."""
