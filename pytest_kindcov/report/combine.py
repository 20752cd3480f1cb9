"""Data files of several runs into one: shards of a CI matrix, or a run added to the one before."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_kindcov.report import datafile, datawrite

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindcov.covdata.paths import Repository


def combine(directory: str | os.PathLike[str], data: Sequence[Path], own: Repository) -> Path:
    """Write one data file of some, of which it may replace one.

    Files are stored by where Go's name of them leads here: on the machines where the runs were, the
    repository may have been elsewhere.

    Args:
        directory: where to.
        data: data files.
        own: the repository.

    Returns:
        The data file. Its time is that of the newest run.

    Raises:
        CoverageDataError: one cannot be read.
        HarvestError: it cannot be written.

    """
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(datafile.opened(path)) for path in data]
        lines: dict[str, int] = {}
        names: dict[str, dict[str, None]] = {}
        places = []
        for connection in opened:
            places.append(_places(connection, own))
            for number, name, numbits in connection.execute(
                "SELECT file_id, name, numbits FROM kindcov_file"
            ):
                path = places[-1][number]
                lines[path] = lines.get(path, 0) | datafile.bits(numbits)
                names.setdefault(path, {})[name] = None
        times = [
            when
            for connection in opened
            for (when,) in connection.execute("SELECT time FROM kindcov_run")
        ]
        return datawrite.write(
            directory,
            [(path, name, _numbits(lines[path])) for path in lines for name in names[path]],
            (
                context
                for connection, place in zip(opened, places, strict=True)
                for context in _contexts(connection, place)
            ),
            max(times, default=0.0),
        )


def _places(connection: sqlite3.Connection, own: Repository) -> dict[int, str]:
    """By number, where each file of a run is here."""
    found = {}
    for number, path, name in connection.execute(
        "SELECT file.id, path, name FROM file JOIN kindcov_file ON file.id = file_id"
    ):
        here = own.locate(name) if name else None
        found[number] = datafile.clean(f"{own.root}/{here}") if here else path
    return found


def _contexts(
    connection: sqlite3.Connection, places: dict[int, str]
) -> Iterator[tuple[str, Iterable[tuple[str, bytes]]]]:
    for number, context in connection.execute("SELECT id, context FROM context").fetchall():
        rows = connection.execute(
            "SELECT file_id, numbits FROM line_bits WHERE context_id = ?", (number,)
        )
        yield context, ((places[file], blob) for file, blob in rows if file in places)


def _numbits(lines: int) -> bytes:
    return lines.to_bytes((lines.bit_length() + 7) // 8, "little")
