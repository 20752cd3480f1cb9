"""The data file of a run: which context ran which lines, and which lines there are.

Format: coverage.py's, version 7 (docs/dbschema.rst there), so that its tools read it; a set of
lines is a blob in which line n is bit n % 8 of byte n // 8. Beside it stands what those tools ask
the plugin `gofile` for, long after the run, and what `kindcov why` needs, in tables of our own:

- `kindcov_run`: one row, `time` in seconds since the epoch.
- `kindcov_file`: `file_id`, `name` (Go's name of it; a file can have several), `numbits`: its
  lines with statements.

Nothing here needs numpy or coverage.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

NAME = ".coverage"
VERSION = 7
TABLES = """
CREATE TABLE kindcov_run (time real);
CREATE TABLE kindcov_file (file_id integer, name text, numbits blob);
"""


def clean(text: str) -> str:
    r"""Text as a data file can hold it: a byte that is not UTF-8 becomes `\udcXX`, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def find(path: str | os.PathLike[str]) -> Path:
    """The data file of a directory, or the file itself.

    Raises:
        CoverageDataError: there is none.

    """
    file = Path(path)
    if file.is_dir():
        file /= NAME
    if not file.exists():
        raise CoverageDataError(
            f"no record of who ran what: {file} does not exist",
            remedy="run `pytest --kind-coverage` first, or name its directory with --data",
            slug="record-missing",
        )
    return file


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A data file to read; also what goes wrong while it is read has its name.

    Raises:
        CoverageDataError: it is damaged, of another version, or of another program.

    """
    try:
        # Nobody changes a data file: it is replaced. So it can be read where nothing may be locked.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            check(connection, str(path))
            yield connection
    except sqlite3.Error as error:
        raise CoverageDataError(
            f"{path} cannot be read",
            cause=str(error),
            remedy="it must be a data file that `pytest --kind-coverage` wrote, not another of"
            " coverage.py; run it again",
            slug="record-not-readable",
        ) from error


def check(connection: sqlite3.Connection, name: str) -> None:
    """That sets of lines are stored as above.

    Raises:
        CoverageDataError: it has another version.

    """
    (version,) = connection.execute("SELECT version FROM coverage_schema").fetchone() or (None,)
    if version != VERSION:
        raise CoverageDataError(
            f"{name} has version {version} of coverage.py's format, not {VERSION}",
            remedy="install another version of coverage.py, or of pytest-kindcov",
            slug="record-not-readable",
        )


def bits(numbits: bytes) -> int:
    """A set of lines as a number: line n is bit n. So a union is an `|`."""
    return int.from_bytes(numbits, "little")


def numbers(lines: int) -> list[int]:
    """The lines of such a number, ascending."""
    return [line for line, digit in enumerate(bin(lines)[:1:-1]) if digit == "1"]
