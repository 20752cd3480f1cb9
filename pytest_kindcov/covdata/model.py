"""What a program can cover, and how often it did: one order of units, one vector of counters.

The meta data of a program fix the order of all its units: package by package, function by
function, unit by unit, as they stand in its `covmeta` file. Its counters, of whatever process and
from wherever (files, memory), are one `uint32[U]` in that order. Merging is then an addition, what
a test did a subtraction, and coverage a comparison with 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Counters = npt.NDArray[np.uint32]
    Ints = npt.NDArray[np.int32]
    Bools = npt.NDArray[np.bool_]

FULL = np.uint32(0xFFFFFFFF)


class Mode(IntEnum):
    """What a counter means (Go: coverage.CounterMode). SET: 1 when run; else how often."""

    SET = 1
    COUNT = 2
    ATOMIC = 3
    REGONLY = 4
    TESTMAIN = 5


class Granularity(IntEnum):
    """What has a counter (Go: coverage.CounterGranularity); `go build` always takes BLOCK."""

    BLOCK = 1
    FUNC = 2


@dataclass(frozen=True)
class Package:
    """A package of a program.

    Args:
        path: import path; `command-line-arguments` when files were given to `go build`.
        name: of its package clause.
        module: path of the module it belongs to; "" for the standard library.
        hash: 16 bytes over all its functions and units: equal means the same source.

    """

    path: str
    name: str
    module: str
    hash: bytes


@dataclass(frozen=True, eq=False)
class Meta:
    """All that one build of a program can cover: P packages, F functions, U units.

    Args:
        hash: 16 bytes; names the build, and the mode it was built for.
        mode: what its counters mean.
        granularity: what has a counter.
        packages: P of them.
        package_functions: int32[P+1]; package p has the functions [p] to [p+1].
        strings: the string tables of all packages, one after the other.
        package_strings: int32[P+1]; package p has the strings [p] to [p+1].
        function_units: int32[F+1]; function f has the units [f] to [f+1].
        function_name: int32[F], index into `strings`: `Type.Method`, `init`, `f.func1`.
        function_file: int32[F], index into `strings`: import path and base name, or an absolute
            path for a package of `go build FILE`.
        function_literal: bool[F], whether it has no name of its own in the source.
        units: uint32[U, 5]: first line, first column, last line, last column, statements. Columns
            count bytes from 1; the last column is the one behind the unit.

    """

    hash: bytes
    mode: Mode
    granularity: Granularity
    packages: tuple[Package, ...]
    package_functions: Ints
    strings: list[str]
    package_strings: Ints
    function_units: Ints
    function_name: Ints
    function_file: Ints
    function_literal: Bools
    units: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        """U, the number of units."""
        return len(self.units)

    @property
    def functions(self) -> int:
        """F, the number of functions."""
        return len(self.function_name)

    @cached_property
    def function_package(self) -> Ints:
        """int32[F], the package of each function."""
        sizes = np.diff(self.package_functions)
        return np.repeat(np.arange(len(self.packages), dtype=np.int32), sizes)

    @cached_property
    def statements(self) -> int:
        """Sum over all units."""
        return int(self.units[:, 4].sum(dtype=np.uint64))

    def zeros(self) -> Counters:
        """The counters of a process that ran nothing: uint32[U]."""
        return np.zeros(len(self), dtype=np.uint32)

    def covered_statements(self, counters: Counters) -> int:
        """Statements that ran. Unlike Go's profile, units that stand here twice count twice."""
        return int(self.units[covered(counters), 4].sum(dtype=np.uint64))


def covered(counters: Counters) -> Bools:
    """bool[U], which units ran. Compares with 0: a counter that wrapped is not less than 1."""
    return np.not_equal(counters, 0)


def merge(mode: Mode, vectors: Iterable[Counters]) -> Counters:
    """Counters of several processes of one program: uint32[U].

    The sum, and 2^32 - 1 where it is larger; for SET 1 where any is not 0. As Go's
    src/internal/coverage/cmerge. The order of the vectors makes no difference.

    Raises:
        ValueError: there are none, or their lengths differ.

    """
    total: Counters | None = None
    for vector in vectors:
        if total is None:
            total = vector.astype(np.uint32, copy=True)
            if mode is Mode.SET:
                total = (total != 0).astype(np.uint32)
        elif vector.shape != total.shape:
            raise ValueError("counters of different programs")
        elif mode is Mode.SET:
            total |= vector != 0
        else:
            total += np.minimum(vector, FULL - total)
    if total is None:
        raise ValueError("no counters")
    return total


def subtract(after: Counters, before: Counters) -> Counters:
    """What one process did between two readings: uint32[U], modulo 2^32 as its counters are.

    In mode SET only what ran for the first time is seen.

    Raises:
        ValueError: their lengths differ.

    """
    if after.shape != before.shape:
        raise ValueError("counters of different programs")
    return after - before
