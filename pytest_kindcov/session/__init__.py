"""One run, from the first test that needs a cluster to the last line that is reported."""
