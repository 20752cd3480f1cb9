"""Go's text profile: one line for each block, of one program or of many, of any tool.

Format: Go's src/internal/coverage/cformat and golang.org/x/tools/cover. After `mode: MODE`, lines
`FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT`. Blocks of several programs that are the same in
package, file, function and position are one block: as `go tool covdata textfmt` combines them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.model import FULL, Mode, covered
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Bools, Counters, Ints, Meta

# Numbers of at most 19 digits: they fit into 64 bits.
_LINE = re.compile(
    rb"(.+):(\d{1,19})\.(\d{1,19}),(\d{1,19})\.(\d{1,19}) (\d{1,19}) (\d{1,19})", re.ASCII
)
_MODES = {b"set": Mode.SET, b"count": Mode.COUNT, b"atomic": Mode.ATOMIC}
_HIGHEST = int(FULL)


@dataclass(frozen=True, order=True)
class File:
    """A source file as profiles name it.

    Args:
        package: import path of its package; for a text profile what stands before the file's name.
        path: import path and base name, or an absolute path for a package of `go build FILE`.

    """

    package: str
    path: str


# A function by its name, and whether it is a literal; UNKNOWN for blocks of a text profile.
Function = tuple[str, bool]
UNKNOWN: Function = ("", False)


@dataclass(frozen=True, eq=False)
class Profile:
    """N blocks, sorted by package, file and position, and how often each ran.

    Args:
        mode: what the counts mean.
        files: files, sorted.
        functions: name, and whether it is a literal; UNKNOWN in a text profile.
        file: int32[N], index into `files`.
        function: int32[N], index into `functions`.
        units: uint32[N, 5]: first line, first column, last line, last column, statements.
        counts: uint32[N]; 0 or 1 in mode SET.

    """

    mode: Mode
    files: tuple[File, ...]
    functions: tuple[Function, ...]
    file: Ints
    function: Ints
    units: npt.NDArray[np.uint32]
    counts: Counters

    def __len__(self) -> int:
        """N, the number of blocks."""
        return len(self.counts)

    @cached_property
    def covered(self) -> Bools:
        """bool[N], which blocks ran."""
        return covered(self.counts)

    def by_file(self) -> list[tuple[File, int, int]]:
        """For each file its statements, and those that ran."""
        size = len(self.files)
        statements = self.units[:, 4].astype(np.float64)  # exact up to 2^53
        all_ = np.bincount(self.file, statements, size).astype(np.int64).tolist()
        ran = np.bincount(self.file, statements * self.covered, size).astype(np.int64).tolist()
        return list(zip(self.files, all_, ran, strict=True))

    def by_package(self) -> list[tuple[str, int, int]]:
        """For each package its statements and those that ran: `go tool covdata percent`."""
        sums: dict[str, tuple[int, int]] = {}
        for file, statements, ran in self.by_file():
            before = sums.get(file.package, (0, 0))
            sums[file.package] = before[0] + statements, before[1] + ran
        return [(package, *pair) for package, pair in sums.items()]

    def by_function(self) -> list[tuple[File, int, Function, int, int]]:
        """File, first line, function, statements and those that ran: `go tool covdata func`.

        As there, blocks of one package that follow each other under one name are one entry. That
        tool does not show the entries that begin with a literal, but counts them.
        """
        if not len(self):
            return []
        package = _ids([file.package for file in self.files])[self.file]
        name = _ids([name for name, _ in self.functions])[self.function]
        other = (package[1:] != package[:-1]) | (name[1:] != name[:-1])
        first = np.concatenate([[0], np.flatnonzero(other) + 1])
        statements = self.units[:, 4].astype(np.int64)
        found = np.add.reduceat(statements, first).tolist()
        ran = np.add.reduceat(statements * self.covered, first).tolist()
        return [
            (
                self.files[self.file[at]],
                int(self.units[at, 0]),
                self.functions[self.function[at]],
                *sums,
            )
            for at, *sums in zip(first.tolist(), found, ran, strict=True)
        ]


def _ids(names: list[str]) -> npt.NDArray[np.int64]:
    """Equal names, equal numbers."""
    index: dict[str, int] = {}
    return np.array([index.setdefault(name, len(index)) for name in names], np.int64)


def from_counters(meta: Meta, counters: Counters) -> Profile:
    """The profile of one program.

    Args:
        meta: the program.
        counters: uint32[U].

    """
    sizes = np.diff(meta.function_units)
    # A string's index names it within its package, so it needs no comparing of strings.
    file, first, whose = np.unique(meta.function_file, return_index=True, return_inverse=True)
    packages = meta.function_package[first].tolist()
    files = [
        File(meta.packages[package].path, meta.strings[path])
        for package, path in zip(packages, file.tolist(), strict=True)
    ]
    key = meta.function_name * 2 + meta.function_literal
    key, name = np.unique(key, return_inverse=True)
    functions = [(meta.strings[number >> 1], bool(number & 1)) for number in key.tolist()]
    return _combined(
        meta.mode,
        files,
        functions,
        file=np.repeat(whose.astype(np.int32), sizes),
        function=np.repeat(name.astype(np.int32), sizes),
        units=meta.units,
        counts=counters,
    )


def merge(profiles: Sequence[Profile]) -> Profile:
    """One profile of all. Blocks that are the same are added up, in mode SET or-ed.

    Profiles of different modes: with one of mode SET the whole is SET, for counts cannot be had
    from it; COUNT and ATOMIC give ATOMIC. `go tool covdata textfmt` refuses both.

    Raises:
        ValueError: there is none.

    """
    if not profiles:
        raise ValueError("no profiles")
    if len(profiles) == 1:
        return profiles[0]
    modes = {profile.mode for profile in profiles}
    mode = Mode.SET if Mode.SET in modes else max(modes)
    # A text profile does not name packages; `go build FILE` is known by its path.
    named = {f.path: f for p in profiles if p.functions != (UNKNOWN,) for f in p.files}
    files: dict[File, int] = {}
    functions: dict[Function, int] = {}
    file, function = [], []
    for one in profiles:
        text = one.functions == (UNKNOWN,)
        own = [named.get(f.path, f) if text else f for f in one.files]
        place = np.array([files.setdefault(f, len(files)) for f in own], np.int32)
        file.append(place[one.file])
        place = np.array([functions.setdefault(f, len(functions)) for f in one.functions], np.int32)
        function.append(place[one.function])
    return _combined(
        mode,
        list(files),
        list(functions),
        file=np.concatenate(file),
        function=np.concatenate(function),
        units=np.concatenate([one.units for one in profiles]),
        counts=np.concatenate([one.counts for one in profiles]),
    )


def _combined(
    mode: Mode,
    files: list[File],
    functions: list[Function],
    *,
    file: Ints,
    function: Ints,
    units: npt.NDArray[np.uint32],
    counts: Counters,
) -> Profile:
    """Sort the blocks, and make one of those that are the same."""
    names = sorted(set(files))
    rank = {name: number for number, name in enumerate(names)}
    file = np.array([rank[name] for name in files], np.int32)[file]
    last = -1
    if UNKNOWN in functions:  # behind the others: its blocks join those before them
        at, last = functions.index(UNKNOWN), len(functions) - 1
        functions[at], functions[last] = functions[last], functions[at]
        swap = np.arange(len(functions), dtype=np.int32)
        swap[[at, last]] = last, at
        function = swap[function]
    wide = units.astype(np.int64)
    keys = (
        function,
        wide[:, 3] << 32 | wide[:, 4],
        wide[:, 2] << 32 | wide[:, 1],
        file.astype(np.int64) << 32 | wide[:, 0],
    )
    order = np.lexsort(keys)
    file, function, units, counts = file[order], function[order], units[order], counts[order]
    if mode is Mode.SET:
        counts = (counts != 0).astype(np.uint32)
    same = (file[1:] == file[:-1]) & (units[1:] == units[:-1]).all(axis=1)
    same &= (function[1:] == function[:-1]) | (function[1:] == last)
    if same.any():
        first = np.flatnonzero(np.concatenate([[True], ~same]))
        if mode is Mode.SET:
            counts = np.maximum.reduceat(counts, first)
        else:
            sums = np.add.reduceat(counts.astype(np.uint64), first)
            counts = np.minimum(sums, np.uint64(_HIGHEST)).astype(np.uint32)
        file, function, units = file[first], function[first], units[first]
    return Profile(mode, tuple(names), tuple(functions), file, function, units, counts)


def write(profile: Profile) -> bytes:
    """The text of a profile, in the order in which `go tool covdata textfmt` writes it."""
    edges = np.searchsorted(profile.file, np.arange(len(profile.files) + 1)).tolist()
    numbers = np.column_stack([profile.units, profile.counts]).ravel().tolist()
    lines = [f"mode: {profile.mode.name.lower()}\n"]
    for file, first, last in zip(profile.files, edges[:-1], edges[1:], strict=True):
        # A name cannot begin a line of its own.
        name = file.path.replace("\r", "\\r").replace("\n", "\\n").replace("%", "%%")
        # One format for all lines of a file: half the time of one for each.
        line = f"{name}:%d.%d,%d.%d %d %d\n"
        lines.append(line * (last - first) % tuple(numbers[6 * first : 6 * last]))
    return "".join(lines).encode("utf-8", "surrogateescape")


def read(data: bytes) -> Profile:
    """Read a text profile. Lines for one block are combined; more `mode:` lines may follow.

    Raises:
        CoverageDataError: it is not one.

    """
    mode: Mode | None = None
    files: dict[bytes, int] = {}
    file: list[int] = []
    numbers: list[tuple[int, ...]] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.strip()
        if line.startswith(b"mode: "):
            found = _MODES.get(line[6:])
            if found is None or mode not in (None, found):
                raise CoverageDataError(f"line {number}: not the mode of a profile, or another")
            mode = found
        elif line:
            match = _LINE.fullmatch(line)
            if mode is None or match is None:
                raise CoverageDataError(f"line {number} is not of a Go coverage profile")
            name, *texts = match.groups()
            file.append(files.setdefault(name, len(files)))
            numbers.append(tuple(map(int, texts)))
    if mode is None:
        raise CoverageDataError("empty: not even a mode")
    table = np.array(numbers, np.uint64).reshape(-1, 6)
    if table[:, :5].max(initial=0) > _HIGHEST:
        raise CoverageDataError("a line number beyond 2^32")
    # Spelled out as `write` has it, so that what is written and read again has the same order.
    paths = [name.replace(b"\r", rb"\r").decode("utf-8", "surrogateescape") for name in files]
    return _combined(
        mode,
        [File(path.rpartition("/")[0], path) for path in paths],
        [UNKNOWN],
        file=np.array(file, np.int32),
        function=np.zeros(len(file), np.int32),
        units=table[:, :5].astype(np.uint32),
        counts=np.minimum(table[:, 5], np.uint64(_HIGHEST)).astype(np.uint32),
    )
