"""Which test ran which lines, in coverage.py's data format: `.coverage`, and a `coveragerc` for it.

All files of all builds lie one after the other in one row of bits, a bit for each line, every file
at a byte of its own. What a context ran is then a few vector operations for all files together, and
its entry for a file a slice of the packed row. See bench/contexts.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.paths import Repository
from pytest_kindcov.errors import HarvestError
from pytest_kindcov.report import datafile

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Meta

    Ints = npt.NDArray[np.int32]
    Index = npt.NDArray[np.int64]

RCFILE = "coveragerc"
PLUGIN = "pytest_kindcov.report.gofile"
_TRACER = f"{PLUGIN}.GoPlugin"
# Lines of a file. Generated files have some 100,000; a `//line` comment can claim any number, and
# each takes a bit for every context.
_HIGHEST = 1 << 20

# Values may hold a `$`: it would begin a variable.
_CONFIG = """\
# For coverage.py on what the tests of the last run covered. Written anew by every run.
[run]
plugins = {plugin}
data_file = {directory}/{data}

[html]
directory = {directory}/htmlcov
show_contexts = true

[json]
output = {directory}/coverage.json

[xml]
output = {directory}/coverage.xml

[lcov]
output = {directory}/coverage.lcov

[{plugin}]
data = {directory}/{data}
"""


class _Lines:
    """Where the lines of all units of all builds are in the row of bits.

    Args:
        metas: by hash.
        root: of the repository.

    Attributes:
        files: paths, as they are stored.
        names: by index of a file, Go's names of it.
        edges: int64[F+1], bytes; file f has those from [f] to [f+1], none if it has no statement.
        units: by hash, int64[3, U]: first bit, number of bits (0 without statements), file.

    """

    def __init__(self, metas: Mapping[bytes, Meta], root: str | os.PathLike[str]) -> None:
        repository = Repository(root)
        index: dict[str, int] = {}
        self.names: dict[int, list[str]] = {}
        self.units: dict[bytes, Index] = {}
        for meta in metas.values():
            strings, whose = np.unique(meta.function_file, return_inverse=True)
            places = []
            for string in strings.tolist():
                name = meta.strings[string]
                found = repository.locate(name) if name else None
                path = datafile.clean(name if found is None else f"{repository.root}/{found}")
                place = index.setdefault(path, len(index))
                names = self.names.setdefault(place, [])
                if datafile.clean(name) not in names:
                    names.append(datafile.clean(name))
                places.append(place)
            file = np.array(places, np.int64)[whose.reshape(-1)]
            self.units[meta.hash] = _spans(meta, np.repeat(file, np.diff(meta.function_units)))
        self.files = list(index)
        sizes = np.zeros(len(index), np.int64)
        for first, length, file in self.units.values():
            np.maximum.at(sizes, file[length > 0], ((first + length + 7) // 8)[length > 0])
        self.edges = np.concatenate([[0], np.cumsum(sizes)])
        for unit in self.units.values():
            unit[0] += self.edges[unit[2]] * 8

    def sets(self, ran: Mapping[bytes, Ints]) -> list[tuple[int, bytes]]:
        """Files and their lines, as they are stored, of some units by build."""
        row = np.zeros(8 * self.edges[-1], bool)
        touched = np.zeros(len(self.files), bool)
        for build, units in ran.items():
            first, length, file = self.units[build][:, units]
            ends = np.cumsum(length)
            # The lines of a unit follow each other: its first bit, and so on.
            row[np.repeat(first - ends + length, length) + np.arange(length.sum())] = True
            touched[file[length > 0]] = True
        packed = np.packbits(row, bitorder="little").tobytes()
        which = np.flatnonzero(touched)
        begins, ends = self.edges[which].tolist(), self.edges[which + 1].tolist()
        return [
            (file, packed[begin:end].rstrip(b"\0"))
            for file, begin, end in zip(which.tolist(), begins, ends, strict=True)
        ]


def _spans(meta: Meta, file: Index) -> Index:
    """First line, number of lines (0 without statements) and file of each unit: int64[3, U]."""
    first, _, last, column, statements = meta.units.T.astype(np.int64)
    # A unit that ends before the first column of a line has nothing on it.
    last = np.clip(last - (column <= 1), first, _HIGHEST)
    length = np.where((statements > 0) & (first > 0), np.maximum(last - first + 1, 0), 0)
    return np.stack([first, length, file])


def write(
    directory: str | os.PathLike[str],
    root: str | os.PathLike[str],
    metas: Mapping[bytes, Meta],
    contexts: Iterable[tuple[str, Mapping[bytes, Ints]]],
    *,
    when: float | None = None,
) -> Path:
    """Write what every context ran; a file that was there is replaced at the end, at once.

    Args:
        directory: where to; created if it is missing.
        root: of the repository: files are stored by their absolute path in it, and by Go's name if
            they are not there.
        metas: all builds, by hash. All their files with statements are stored, run or not.
        contexts: names, and by build the int32 indices of units that ran, in any order. A name that
            comes again adds to what it had. See `why.origin` for their form.
        when: the time of the run in seconds since the epoch; now if None.

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
            _write(data, _Lines(metas, root), contexts, time.time() if when is None else when)
            where = str(target).replace("$", "$$")
            text = _CONFIG.format(plugin=PLUGIN, directory=where, data=datafile.NAME)
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
    path: Path, lines: _Lines, contexts: Iterable[tuple[str, Mapping[bytes, Ints]]], when: float
) -> None:
    from coverage import CoverageData
    from coverage.numbits import register_sqlite_functions

    # coverage.py makes its tables, of the version that will read them.
    data = CoverageData(str(path))
    data.add_lines({})
    everything = {
        hash_: np.arange(unit.shape[1], dtype=np.int32) for hash_, unit in lines.units.items()
    }
    executable = lines.sets(everything)
    data.touch_files([lines.files[file] for file, _ in executable], _TRACER)
    data.write()
    data.close(force=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # Until it has its name, nobody needs to roll it back.
        connection.execute("PRAGMA journal_mode = off")
        datafile.check(connection, "the data file of the installed coverage.py")
        connection.executescript(datafile.TABLES)
        register_sqlite_functions(connection)
        connection.execute("INSERT INTO kindcov_run VALUES (?)", (when,))
        stored = dict(connection.execute("SELECT path, id FROM file").fetchall())
        ids = [stored.get(file, 0) for file in lines.files]
        connection.executemany(
            "INSERT INTO kindcov_file VALUES (?, ?, ?)",
            ((ids[file], name, blob) for file, blob in executable for name in lines.names[file]),
        )
        for name, ran in contexts:
            context = datafile.clean(name)
            connection.execute("INSERT OR IGNORE INTO context (context) VALUES (?)", (context,))
            found = connection.execute("SELECT id FROM context WHERE context = ?", (context,))
            (number,) = found.fetchone()
            # `add_lines` takes 40 us for each of these rows, of which a run can have a million.
            connection.executemany(
                "INSERT INTO line_bits (file_id, context_id, numbits) VALUES (?, ?, ?)"
                " ON CONFLICT (file_id, context_id)"
                " DO UPDATE SET numbits = numbits_union(numbits, excluded.numbits)",
                ((ids[file], number, blob) for file, blob in lines.sets(ran)),
            )
        connection.commit()
