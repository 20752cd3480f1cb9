"""Writing the data file of a run, and the `coveragerc` for coverage.py's tools beside it.

Needs coverage.py, not numpy. See `datafile` for the format.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import HarvestError
from pytest_kindcov.report import datafile

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

RCFILE = "coveragerc"
OUTPUT = "coveragepy"
"""Where coverage.py's tools write: their `coverage.json` is not that of a run."""
PLUGIN = "pytest_kindcov.report.gofile"
_TRACER = f"{PLUGIN}.GoPlugin"

# Values may hold a `$`: it would begin a variable.
_CONFIG = """\
# For coverage.py on what the tests of the last run covered. Written anew by every run.
[run]
plugins = {plugin}
data_file = {directory}/{data}

[html]
directory = {directory}/{output}/html
show_contexts = true

[json]
output = {directory}/{output}/coverage.json

[xml]
output = {directory}/{output}/coverage.xml

[lcov]
output = {directory}/{output}/coverage.lcov

[{plugin}]
data = {directory}/{data}
"""


def write(
    directory: str | os.PathLike[str],
    files: Sequence[tuple[str, str, bytes]],
    contexts: Iterable[tuple[str, Iterable[tuple[str, bytes]]]],
    when: float,
) -> Path:
    """Write a data file; one that was there is replaced at the end, at once.

    Args:
        directory: where to; created if it is missing.
        files: path, Go's name, and the lines with statements; a path again for a second name.
        contexts: names, and by path the lines that ran. One that comes again adds to what it had.
        when: the time of the run in seconds since the epoch.

    Returns:
        The data file.

    Raises:
        HarvestError: it cannot be written.

    """
    target = Path(directory).absolute()
    try:
        target.mkdir(parents=True, exist_ok=True)
        # A directory of its own is private while the file is made, and takes away what sqlite left.
        with tempfile.TemporaryDirectory(prefix="tmp.", dir=target) as scratch:
            data, config = Path(scratch, datafile.NAME), Path(scratch, RCFILE)
            _write(data, files, contexts, when)
            where = str(target).replace("$", "$$")
            text = _CONFIG.format(plugin=PLUGIN, directory=where, data=datafile.NAME, output=OUTPUT)
            config.write_text(text, "utf-8", "surrogateescape")
            for file in (data, config):
                file.chmod(0o600)
                file.replace(target / file.name)
    except (OSError, sqlite3.Error) as error:
        raise HarvestError(
            f"who ran what cannot be written to {target}",
            cause=str(error),
            slug="record-not-written",
        ) from error
    return target / datafile.NAME


def _write(
    path: Path,
    files: Sequence[tuple[str, str, bytes]],
    contexts: Iterable[tuple[str, Iterable[tuple[str, bytes]]]],
    when: float,
) -> None:
    from coverage import CoverageData
    from coverage.numbits import register_sqlite_functions

    # coverage.py makes its tables, of the version that will read them.
    data = CoverageData(str(path))
    data.add_lines({})
    data.touch_files([file for file, _, _ in files], _TRACER)
    data.write()
    data.close(force=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # Until it has its name, nobody needs to roll it back.
        connection.execute("PRAGMA journal_mode = off")
        datafile.check(connection, "the data file of the installed coverage.py")
        connection.executescript(datafile.TABLES)
        register_sqlite_functions(connection)
        connection.execute("INSERT INTO kindcov_run VALUES (?)", (when,))
        ids = dict(connection.execute("SELECT path, id FROM file").fetchall())
        connection.executemany(
            "INSERT INTO kindcov_file VALUES (?, ?, ?)",
            ((ids[file], name, blob) for file, name, blob in files),
        )
        for context, ran in contexts:
            connection.execute("INSERT OR IGNORE INTO context (context) VALUES (?)", (context,))
            found = connection.execute("SELECT id FROM context WHERE context = ?", (context,))
            (number,) = found.fetchone()
            # `add_lines` takes 40 us for each of these rows, of which a run can have a million.
            connection.executemany(
                "INSERT INTO line_bits (file_id, context_id, numbits) VALUES (?, ?, ?)"
                " ON CONFLICT (file_id, context_id)"
                " DO UPDATE SET numbits = numbits_union(numbits, excluded.numbits)",
                ((ids[file], number, blob) for file, blob in ran),
            )
        connection.commit()
