"""Which tests ran which lines, file by file: the data file turned from tests to lines.

In a file many lines were run by the same contexts, above all those of one function. So a file has
few different sets of contexts, and each line the number of one. A report then writes a set once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.report import datafile
from pytest_kindcov.report.texts import shown
from pytest_kindcov.report.why import Kind, origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Index = npt.NDArray[np.int64]

# Contexts that are unpacked together, eight bits to a byte. A file of 2^20 lines takes 64 MB then.
_TOGETHER = 64


@dataclass(frozen=True)
class Context:
    """What ran lines.

    Args:
        name: as stored: see `why.origin`.
        kind: how sure it is that its test ran them.
        test: index into `Who.tests`; -1 outside of tests.

    """

    name: str
    kind: Kind
    test: int


@dataclass
class Test:
    """A test, all its contexts together.

    Args:
        name: node id.
        lines: how many it ran.
        alone: how many of them nothing else ran.
        files: by path, how many lines of it.

    """

    __test__ = False

    name: str
    lines: int = 0
    alone: int = 0
    files: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """Who ran the lines of one file.

    Args:
        set_of: int64[L]: for each line, index into `sets`; -1 for a line that nothing ran. Line n
            is [n], so [0] is no line.
        sets: context indices, ascending, of each set; in the order of the lines.

    """

    set_of: Index
    sets: list[list[int]]


@dataclass(frozen=True)
class Who:
    """What a data file says.

    Args:
        time: of the run, in seconds since the epoch.
        contexts: those that ran something, tests first, each kind sorted by name.
        tests: sorted by node id.
        files: by path as stored, those of which a line ran.
        names: by Go's name of a file, as in `model.Source`, its path as stored.

    """

    time: float
    contexts: list[Context]
    tests: list[Test]
    files: dict[str, File]
    names: dict[str, str]


def read(path: Path) -> Who:
    """Read a data file.

    Raises:
        CoverageDataError: it cannot be read.

    """
    with datafile.opened(path) as connection:
        (time,) = connection.execute("SELECT time FROM kindcov_run").fetchone()
        stored = connection.execute("SELECT id, context FROM context").fetchall()
        paths = dict(connection.execute("SELECT id, path FROM file").fetchall())
        names = connection.execute(
            "SELECT name, path FROM kindcov_file JOIN file ON file.id = file_id"
        ).fetchall()
        # Put together here, by file: sqlite needs twice the time for it.
        whose: dict[int, list[int]] = {number: [] for number in paths}
        lines: dict[int, list[bytes]] = {number: [] for number in paths}
        for number, context, numbits in connection.execute(
            "SELECT file_id, context_id, numbits FROM line_bits"
        ):
            if numbits:
                whose[number].append(context)
                lines[number].append(numbits)
    place, contexts, tests = _contexts(stored)
    # A test is one, whatever contexts it has; what is outside of tests is each one of its own.
    group = np.array([c.test if c.test >= 0 else -1 - i for i, c in enumerate(contexts)], np.int64)
    files = {}
    for number, file in paths.items():
        if lines[number]:
            who = place[whose[number]]
            order = np.argsort(who)
            size = max(map(len, lines[number]))
            joined = b"".join([numbits.ljust(size, b"\0") for numbits in lines[number]])
            packed = np.frombuffer(joined, np.uint8).reshape(-1, size)
            who = who[order]
            set_of, members = _sets(packed[order])
            files[file] = File(set_of, [who[np.flatnonzero(row)].tolist() for row in members])
            sizes = np.bincount(set_of[set_of >= 0], minlength=len(members))
            for test, ran, alone in _counts(group[who], members, sizes):
                tests[test].lines += ran
                tests[test].alone += alone
                tests[test].files[file] = ran
    return Who(time, contexts, tests, files, {shown(name): path for name, path in names})


def _contexts(stored: list[tuple[int, str]]) -> tuple[Index, list[Context], list[Test]]:
    """By number in the data file the index of a context; contexts; tests."""
    origins = {number: (*origin(name), name) for number, name in stored}
    tests = [Test(name) for name in sorted({test for _, test, _ in origins.values() if test})]
    index = {test.name: number for number, test in enumerate(tests)}
    order = sorted(origins, key=lambda number: (not origins[number][1], origins[number]))
    contexts = [
        Context(name, kind, index.get(test, -1))
        for kind, test, name in (origins[number] for number in order)
    ]
    place = np.zeros(max(order, default=0) + 1, np.int64)
    place[order] = np.arange(len(order))
    return place, contexts, tests


def _sets(packed: Bytes) -> tuple[Index, Bytes]:
    """The different sets of contexts that lines have.

    Args:
        packed: uint8[K, B], a row for each context: a line a bit.

    Returns:
        int64[8 * B]: for each line its set, -1 if nothing ran it; and uint8[S, K]: 1 where a
        context is in a set. Sets come in the order of the lines.

    """
    # For each line its contexts as bits: uint8[8 * B, K / 8].
    columns = [
        np.packbits(np.unpackbits(packed[at : at + _TOGETHER], axis=1, bitorder="little"), axis=0)
        for at in range(0, len(packed), _TOGETHER)
    ]
    lines = np.ascontiguousarray(np.concatenate(columns).T)
    ran = np.flatnonzero(lines.any(axis=1))
    keys = lines[ran].view(np.dtype((np.void, lines.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # of the lines, not of the bytes
    set_of = np.full(len(lines), -1, np.int64)
    set_of[ran] = np.argsort(order)[inverse.reshape(-1)]
    return set_of, np.unpackbits(lines[ran[first[order]]], axis=1)[:, : len(packed)]


def _counts(group: Index, members: Bytes, sizes: Index) -> Iterator[tuple[int, int, int]]:
    """What tests ran in a file: test, lines, and how many of them nothing else ran.

    Args:
        group: int64[K]: the test of each context, or a negative number of its own.
        members: uint8[S, K]: 1 where a context is in a set.
        sizes: int64[S]: lines of each set.

    """
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=group.min() - 1))
    ran = np.maximum.reduceat(members[:, order], first, axis=1)
    lines = sizes @ ran
    alone = (sizes * (ran.sum(axis=1, dtype=np.int64) == 1)) @ ran
    tests = group[order][first]
    for test, count, own in zip(tests.tolist(), lines.tolist(), alone.tolist(), strict=True):
        if test >= 0 and count:
            yield test, count, own
