"""One run's coverage, from which every report is made: `Report` is the whole.

Nothing here imports numpy when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_kindcov.report.tally import Summary, Tally

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Bools, Counters, Ints
    from pytest_kindcov.covdata.profile import Profile
    from pytest_kindcov.covdata.store import Store


@dataclass(frozen=True)
class Source:
    """A Go file with statements.

    Args:
        name: Go's name of it: import path and base name, or an absolute path. What is not UTF-8 in
            it is spelled out, as in all texts here.
        package: import path of its package.
        path: in the repository, relative to its root, with `/`; "" if it is not there.
        file: where its text is: in the repository, or in Go's cache of modules; None if nowhere.
        generated: whether it says `// Code generated … DO NOT EDIT.`, as Go wants it.
        changed: whether its text is not what was built: lines must not be painted on it.
        tally: its statements.
        blocks: of `Report.profile`: its blocks.
        lines: of `Report.lines`: its lines.

    """

    name: str
    package: str
    path: str
    file: Path | None
    generated: bool
    changed: bool
    tally: Tally
    blocks: slice
    lines: slice

    @property
    def shown(self) -> str:
        """How reports call it: by its path in the repository, or else as Go does."""
        return self.path or self.name


@dataclass(frozen=True, eq=False)
class Lines:
    """L lines with statements of all files, file by file, ascending.

    A line belongs to every block that has something on it, and ran when one of them did: the rule
    of `.coverage`, of Cobertura and of LCOV here. See `report.lines`.

    Args:
        number: int32[L], from 1.
        hits: uint32[L]: the most that any of its blocks ran; 0 when none did.
        partial: bool[L]: one of its blocks ran, another did not. A brace alone is no part of it.

    """

    number: Ints
    hits: Counters
    partial: Bools

    def __len__(self) -> int:
        """L, the number of lines."""
        return len(self.number)


@dataclass(frozen=True)
class Program:
    """One build of one program.

    Args:
        hash: 32 hexadecimal digits that name the build.
        mode: what its counters mean: `set`, `count`, `atomic`.
        packages: how many it has.
        functions: how many it has.
        units: blocks of code with a counter.
        files: how many counter files of it were read.

    """

    hash: str
    mode: str
    packages: int
    functions: int
    units: int
    files: int


@dataclass(frozen=True)
class Container:
    """How one container of the cluster ended, for its coverage.

    Args:
        name: `NAMESPACE/POD/CONTAINER`.
        node: where it ran.
        image: full name of its image.
        verdict: `ok`: it wrote all; `not instrumented`; or one of `harvest.verdict.Kind`.
        text: the verdict in a sentence; "" for those that need none.
        loses: whether what it ran may be missing.
        allowed: whether the user allowed that.
        programs: hashes of its builds, as in `Program`.

    """

    name: str
    node: str
    image: str
    verdict: str
    text: str = ""
    loses: bool = False
    allowed: bool = False
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Issue:
    """Something by which the numbers may mislead: `covdata.store.Problem`, or of the harvest.

    Args:
        kind: such as `bad file`, `duplicate`; "" when it has no kind.
        name: the file, program or package; "" when the reason says all.
        reason: why, in a sentence.

    """

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.name else self.reason


@dataclass(frozen=True)
class Phase:
    """A part of the run: seconds since its beginning, and how long it took."""

    name: str
    begin: float
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """A file that was left out on request: its figures are in no total.

    Args:
        tally: its statements, under the name by which reports would call it.
        why: the setting: `generated`, `exclude GLOB`, or `not included`.

    """

    tally: Tally
    why: str


@dataclass(frozen=True, eq=False)
class Sides:
    """What ran in which kind of tests, for every block of the profile.

    Args:
        e2e: bool[N]: it ran in the cluster.
        unit: bool[N]: it ran in unit tests.

    """

    e2e: Bools
    unit: Bools


@dataclass(frozen=True)
class Shares:
    """Statements of a package, or of all, by the kind of tests that ran them."""

    name: str
    both: int
    e2e: int
    unit: int
    neither: int


@dataclass(frozen=True)
class Gate:
    """A limit and whether it is kept: what is printed, written and made the exit code.

    Args:
        kind: `fail-under`, `warn-under` or `patch-under`.
        name: what it holds for: `total`, `patch`, or the package or file that is worst.
        minimum: in percent, exactly.
        tally: what it was compared with.
        passed: whether that is enough.
        text: in one line, such as `FAIL total 79.995% < 80%`.

    """

    kind: str
    name: str
    minimum: Fraction
    tally: Tally
    passed: bool
    text: str


@dataclass(frozen=True)
class PatchFile:
    """Lines of a file that a patch added or changed.

    Args:
        path: in the repository.
        covered: lines with statements that ran.
        missed: lines with statements that did not.

    """

    path: str
    covered: tuple[int, ...]
    missed: tuple[int, ...]


@dataclass(frozen=True)
class Patch:
    """What changed since a commit, in lines.

    Args:
        against: the commit, as it was given.
        files: those with lines that have statements.
        unknown: paths of those that changed since the build: nobody knows what ran.

    """

    against: str
    files: tuple[PatchFile, ...]
    unknown: tuple[str, ...] = ()

    @property
    def tally(self) -> Tally:
        """Lines, not statements."""
        covered = sum(len(file.covered) for file in self.files)
        return Tally("patch", covered + sum(len(file.missed) for file in self.files), covered)


@dataclass(frozen=True)
class Previous:
    """The run before: its total, and when that was (seconds since the epoch)."""

    tally: Tally
    time: float


@dataclass(frozen=True, eq=False)
class Report:
    """All that reports say of a run.

    Args:
        root: of the repository.
        time: of the run, in seconds since the epoch.
        title: of the run, such as its cluster and services; "" for files without a run.
        profile: N blocks of all files, sorted by file and position; file i of it is `files[i]`.
        files: F of them.
        lines: L lines of all files.
        programs: builds.
        containers: of the cluster.
        issues: by which the numbers may mislead.
        phases: in the order in which they began.
        left_out: files that are in no figure.
        sides: which tests ran what; None unless unit tests were given.
        gates: limits.
        patch: what changed since a commit; None unless one was given.
        previous: the run before; None if unknown.
        data: coverage.py's data file, which has the contexts; None if there is none.
        store: what was read, for reports of Go's own formats.

    """

    root: Path
    time: float
    title: str
    profile: Profile
    files: tuple[Source, ...]
    lines: Lines
    programs: tuple[Program, ...] = ()
    containers: tuple[Container, ...] = ()
    issues: tuple[Issue, ...] = ()
    phases: tuple[Phase, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    sides: Sides | None = None
    gates: tuple[Gate, ...] = ()
    patch: Patch | None = None
    previous: Previous | None = None
    data: Path | None = None
    store: Store | None = None

    @cached_property
    def summary(self) -> Summary:
        """Figures by package, sorted by name. Packages without statements are among them."""
        sums: dict[str, tuple[int, int]] = {}
        for file in self.files:
            statements, covered = sums.get(file.package, (0, 0))
            sums[file.package] = (
                statements + file.tally.statements,
                covered + file.tally.covered,
            )
        return Summary([Tally(name, *pair) for name, pair in sorted(sums.items())])

    @property
    def packages(self) -> list[Tally]:
        """Figures by package."""
        return self.summary.packages

    @property
    def total(self) -> Tally:
        """The headline: Go's own figure."""
        return self.summary.total

    @property
    def passed(self) -> bool:
        """Whether no limit fails the run."""
        return all(gate.passed or gate.kind == "warn-under" for gate in self.gates)

    def shares(self) -> list[Shares]:
        """By package, sorted, and at the end of all: which tests ran it; empty without `sides`."""
        if self.sides is None:
            return []
        import numpy as np

        statements = self.profile.units[:, 4].astype(np.float64)  # exact up to 2^53
        both = self.sides.e2e & self.sides.unit
        neither = ~(self.sides.e2e | self.sides.unit)
        masks = [both, self.sides.e2e & ~both, self.sides.unit & ~both, neither]
        size = len(self.files)
        columns = [np.bincount(self.profile.file, statements * mask, size) for mask in masks]
        sums: dict[str, list[int]] = {}
        for file, *numbers in zip(self.files, *(c.tolist() for c in columns), strict=True):
            row = sums.setdefault(file.package, [0, 0, 0, 0])
            row[:] = [have + int(number) for have, number in zip(row, numbers, strict=True)]
        rows = [Shares(name, *row) for name, row in sorted(sums.items())]
        total = [sum(column) for column in zip(*sums.values(), strict=True)] or [0, 0, 0, 0]
        return [*rows, Shares("TOTAL", *total)]

    def blocks(self, file: Source) -> tuple[npt.NDArray[np.uint32], Counters]:
        """A file's blocks: uint32[n, 5] as in `Profile.units`, and how often each ran."""
        return self.profile.units[file.blocks], self.profile.counts[file.blocks]

    def lines_of(self, file: Source) -> Lines:
        """A file's lines."""
        part = file.lines
        return Lines(self.lines.number[part], self.lines.hits[part], self.lines.partial[part])
