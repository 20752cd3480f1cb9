"""From the nodes to coverage: inject, collect, merge."""
