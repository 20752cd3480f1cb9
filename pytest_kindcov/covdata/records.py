"""Function records, in files and in memory: where they stand, and whose counters they hold.

A record is three header words (how many counters, package, function) and the counters. Here all
records of a program stand one behind the other in one *row* of S = U + 3F words, in the order of
its meta data, headers included: so whole records, found wherever, are added without being taken
apart, and what falls on the headers is dropped at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.model import FULL, Mode
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Meta

    Words = npt.NDArray[np.uint32]
    Index = npt.NDArray[np.int64]

HEAD = 3


class Layout:
    """Where the record of each function of a program stands in a row.

    Args:
        meta: the program.

    """

    def __init__(self, meta: Meta) -> None:
        sizes = np.diff(meta.function_units).astype(np.int64)
        self.meta = meta
        self.functions = meta.functions
        self.width: Index = sizes + HEAD
        self.start: Index = np.cumsum(self.width) - self.width
        self.size = int(self.width.sum())
        # Of the row, the words that are counters: int64[U].
        self.units: Index = np.repeat(HEAD * (np.arange(meta.functions) + 1), sizes)
        self.units += np.arange(len(self.units))
        self._steps: Index = np.arange(0)
        self._first = meta.package_functions[:-1].astype(np.int64)
        # Behind the last function one that no record is of.
        self._package = np.append(meta.function_package.astype(np.int64), -1)
        self._sizes = np.append(sizes.astype(np.uint32), np.uint32(0))

    def functions_at(self, numbers: Words, place: Index) -> Index:
        """Whose records these are: int64[R], indexes of functions.

        Args:
            numbers: uint32[N].
            place: int64[R], where records begin in it.

        Raises:
            CoverageDataError: there is no such function, or it has not so many units.

        """
        function, good = self.match(
            numbers[place], numbers[place + 1].astype(np.int64), numbers[place + 2]
        )
        if not good.all():
            at = int(place[np.argmin(good)])
            size, package, index = numbers[at : at + HEAD].tolist()
            raise CoverageDataError(
                f"{size} counters of function {index} in package {package}: no such function"
            )
        return function

    def match(
        self, size: Words, package: Index, function: Words
    ) -> tuple[Index, npt.NDArray[np.bool_]]:
        """Functions by the three words of their records.

        Args:
            size: uint32[R], how many counters.
            package: int64[R], index of the package.
            function: uint32[R], index within the package.

        Returns:
            int64[R], index of the function; bool[R], whether there is one, of that size.

        """
        if not self.functions:
            return np.zeros(len(size), np.int64), np.zeros(len(size), bool)
        # What is out of range is clipped, and found unequal then: a function beyond its package's
        # last is one of another package.
        index = self._first.take(package, mode="clip")
        index += function
        np.minimum(index, self.functions, out=index)
        good = self._package[index] == package
        good &= self._sizes[index] == size
        return index, good

    def row(self) -> npt.NDArray[np.uint64]:
        """An empty row: uint64[S]."""
        return np.zeros(self.size, np.uint64)

    def add(
        self,
        row: npt.NDArray[np.uint64],
        numbers: npt.NDArray[np.unsignedinteger],
        place: Index,
        whose: Index,
    ) -> None:
        """Add records to a row.

        Args:
            row: uint64[S], changed.
            numbers: uint32[N] or uint64[N], the records one behind the other, and nothing else.
            place: int64[R], where each begins, ascending from 0.
            whose: int64[R], index of its function.

        """
        if not len(place):
            return
        # Where a word goes: as far from its record's begin as it is in the numbers.
        target = np.repeat(self.start[whose] - place, self.width[whose])
        if len(numbers) > len(self._steps):
            self._steps = np.arange(len(numbers))
        target += self._steps[: len(numbers)]
        if numbers.dtype == np.uint32 and int(numbers.sum(dtype=np.uint64)) <= int(FULL):
            # No sum can be more than that of all: half the memory to move.
            part = np.zeros(self.size, np.uint32)
            np.add.at(part, target, numbers)
            row += part
        else:
            np.add.at(row, target, numbers.astype(np.uint64, copy=False))

    def records(self, counters: Counters) -> tuple[int, Words]:
        """What ran, as records: how many, and uint32[N] of them one behind the other.

        Args:
            counters: uint32[U].

        """
        row = np.zeros(self.size, np.uint32)
        row[self.units] = counters
        row[self.start] = self.width - HEAD
        row[self.start + 1] = self.meta.function_package
        row[self.start + 2] = np.arange(self.functions) - self._first[self.meta.function_package]
        ran = np.zeros(self.functions, bool)
        whose = np.repeat(np.arange(self.functions), self.width - HEAD)
        ran[whose[counters != 0]] = True
        return int(ran.sum()), row[np.repeat(ran, self.width)]

    def counters(self, row: npt.NDArray[np.uint64]) -> Counters:
        """The counters in a row, uint32[U]: at most 2^32 - 1, and at most 1 in mode SET."""
        highest = 1 if self.meta.mode is Mode.SET else int(FULL)
        return np.minimum(row[self.units], np.uint64(highest)).astype(np.uint32)


def walk(numbers: Words, at: int, records: int) -> tuple[Index, int]:
    """Follow records one by one.

    Args:
        numbers: uint32[N].
        at: where the first begins.
        records: how many there are.

    Returns:
        int64[records], where each begins; and behind the last.

    Raises:
        CoverageDataError: the numbers end before.

    """
    words = memoryview(numbers.data)
    found = []
    try:
        for _ in range(records):
            found.append(at)
            at += HEAD + words[at]
    except IndexError:
        at = len(words) + 1
    if at > len(words):
        raise CoverageDataError("truncated: records run over the end")
    return np.array(found, np.int64), at


def walk_all(numbers: Words, edges: Index, records: Index) -> Index | None:
    """Follow the records of K files at once, a step of each at a time.

    Args:
        numbers: uint32[N], those of one file behind those of the other.
        edges: int64[K+1], where the numbers of each begin and end.
        records: int64[K], how many each has, descending.

    Returns:
        int64[R], where all records begin, ascending; None if those of a file end elsewhere than
        its numbers.

    """
    at = edges[:-1].copy()
    begins = np.zeros(len(numbers), bool)
    # How many files still have a record at each step.
    steps = np.arange(int(records[0]) if len(records) else 0)
    live = len(at) - np.searchsorted(records[::-1], steps, side="right")
    try:
        for count in live.tolist():
            here = at[:count]
            begins[here] = True
            here += numbers.take(here)
            here += HEAD
    except IndexError:
        return None
    return np.flatnonzero(begins) if (at == edges[1:]).all() else None
