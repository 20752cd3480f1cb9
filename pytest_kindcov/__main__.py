"""`python -m pytest_kindcov` is the console script `kindcov`."""

from __future__ import annotations

import sys

from pytest_kindcov.cli import main

if __name__ == "__main__":
    sys.exit(main())
