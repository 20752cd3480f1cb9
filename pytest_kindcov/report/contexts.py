"""Which test ran which lines, in coverage.py's data format: `.coverage`, and a `coveragerc` for it.

All files of all builds lie one after the other in one row of bits, a bit for each line, every file
at a byte of its own. What a context ran is then a few vector operations for all files together, and
its entry for a file a slice of the packed row. See bench/contexts.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.paths import Repository
from pytest_kindcov.report import datafile, datawrite
from pytest_kindcov.report.lines import spans

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Meta

    Ints = npt.NDArray[np.int32]
    Index = npt.NDArray[np.int64]


class _Lines:
    """Where the lines of all units of all builds are in the row of bits.

    Args:
        metas: by hash.
        root: of the repository, or what is known of it.

    Attributes:
        files: paths, as they are stored.
        names: by index of a file, Go's names of it.
        edges: int64[F+1], bytes; file f has those from [f] to [f+1], none if it has no statement.
        units: by hash, int64[3, U]: first bit, number of bits (0 without statements), file.

    """

    def __init__(
        self, metas: Mapping[bytes, Meta], root: str | os.PathLike[str] | Repository
    ) -> None:
        repository = root if isinstance(root, Repository) else Repository(root)
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
    return np.stack([*spans(meta.units), file])


def write(
    directory: str | os.PathLike[str],
    root: str | os.PathLike[str] | Repository,
    metas: Mapping[bytes, Meta],
    contexts: Iterable[tuple[str, Mapping[bytes, Ints]]],
    *,
    when: float | None = None,
) -> Path:
    """Write what every context ran; a file that was there is replaced at the end, at once.

    Args:
        directory: where to; created if it is missing.
        root: of the repository, or what is known of it: files are stored by their absolute path in
            it, and by Go's name if they are not there.
        metas: all builds, by hash. All their files with statements are stored, run or not.
        contexts: names, and by build the int32 indices of units that ran, in any order. A name that
            comes again adds to what it had. See `why.origin` for their form.
        when: the time of the run in seconds since the epoch; now if None.

    Returns:
        The data file.

    Raises:
        HarvestError: it cannot be written.

    """
    lines = _Lines(metas, root)
    everything = {
        hash_: np.arange(unit.shape[1], dtype=np.int32) for hash_, unit in lines.units.items()
    }
    executable = lines.sets(everything)
    files = [
        (lines.files[file], name, blob) for file, blob in executable for name in lines.names[file]
    ]
    return datawrite.write(
        directory,
        files,
        (
            (datafile.clean(name), ((lines.files[file], blob) for file, blob in lines.sets(ran)))
            for name, ran in contexts
        ),
        time.time() if when is None else when,
    )
