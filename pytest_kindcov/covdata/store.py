"""A directory of coverage files to programs and their counters, and what is wrong with it.

Nothing in a directory is trusted and nothing stops the reading: a file that cannot be used is named
with the reason and left out, and so is everything else by which a number could mislead.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import counters as counterfile
from pytest_kindcov.covdata import meta as metafile
from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata.totals import Total
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.covdata.model import Counters, Meta
    from pytest_kindcov.covdata.profile import Profile

META = re.compile(r"covmeta\.([0-9a-f]{32})")
COUNTERS = re.compile(r"covcounters\.([0-9a-f]{32})\.(\d+)\.(\d+)")
# Of Go's names, but not one of them: damaged, or still being written (`tmp.` has another prefix).
_ALIKE = re.compile(r"cov(meta|counters)\..*")
# A hundred times the meta data of a large Kubernetes controller (645 KB, 32,284 units).
MAX_FILE = 64 << 20


class Kind(StrEnum):
    """What a problem is about."""

    BAD = "bad file"
    ORPHAN = "no meta data"
    IDLE = "no counters"
    DUPLICATE = "duplicate"
    BUILDS = "two builds"
    MODES = "two modes"


@dataclass(frozen=True)
class Problem:
    """Something by which the numbers may mislead.

    Args:
        kind: what it is about; BAD, ORPHAN and DUPLICATE files were left out.
        name: the file, program or package.
        reason: why, in a sentence.

    """

    kind: Kind
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(eq=False)
class Program:
    """One build of one program, and what all its processes did.

    Args:
        meta: what it can cover.
        raw: bytes of its meta-data file.
        counters: uint32[U], of all its counter files together.
        files: how many counter files that were.
        source: the meta-data file.

    """

    meta: Meta
    raw: bytes
    counters: Counters
    files: int
    source: str

    @property
    def hash(self) -> str:
        """32 hexadecimal digits that name the build."""
        return self.meta.hash.hex()


@dataclass(eq=False)
class Store:
    """What some directories hold.

    Args:
        programs: sorted by meta-data file, as `go tool covdata` takes them.
        texts: text profiles.
        problems: in the order in which they were found.

    """

    programs: list[Program] = field(default_factory=list)
    texts: list[Profile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def profile(self) -> Profile | None:
        """All programs and text profiles together; None when there is nothing at all."""
        parts = [profiles.from_counters(one.meta, one.counters) for one in self.programs]
        parts += self.texts
        return profiles.merge(parts) if parts else None


def read(paths: Iterable[str | os.PathLike[str]]) -> Store:
    """Read directories (not what is below them) and text profiles.

    Args:
        paths: directories as `go tool covdata -i` takes them, or files written by
            `go test -coverprofile` and others.

    """
    store = Store()
    metas: dict[str, list[str]] = {}
    counters: dict[str, list[str]] = {}
    for path in [os.fspath(path) for path in paths]:
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116
                _list(path, metas, counters, store.problems)
            else:
                store.texts.append(profiles.read(_bytes(path)))
        except (OSError, CoverageDataError) as error:
            store.problems.append(Problem(Kind.BAD, path, _reason(error)))
    for digest, found in sorted(metas.items(), key=lambda item: item[1]):
        program = _program(found, digest, counters.pop(digest, []), store.problems)
        if program is not None:
            store.programs.append(program)
    for _, orphans in sorted(counters.items()):
        for path in orphans:
            reason = "counters without their covmeta file"
            store.problems.append(Problem(Kind.ORPHAN, path, reason))
    store.problems += _mixed(store.programs, store.texts)
    return store


def _list(
    directory: str,
    metas: dict[str, list[str]],
    counters: dict[str, list[str]],
    problems: list[Problem],
) -> None:
    for name in sorted(os.listdir(directory)):  # noqa: PTH208
        path = os.path.join(directory, name)  # noqa: PTH118
        if match := META.fullmatch(name):
            metas.setdefault(match[1], []).append(path)
        elif match := COUNTERS.fullmatch(name):
            counters.setdefault(match[1], []).append(path)
        elif _ALIKE.fullmatch(name):
            problems.append(Problem(Kind.BAD, path, "not a name of a coverage file"))


def _bytes(path: str) -> bytes:
    """All of a regular file: not a pipe, which would never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise CoverageDataError("not a file")
        if status.st_size > MAX_FILE:
            raise CoverageDataError(f"{status.st_size} bytes are too many")
        data = os.read(handle, status.st_size + 1)
        if len(data) > status.st_size:
            raise CoverageDataError("still being written")
        return data
    finally:
        os.close(handle)


def _reason(error: OSError | CoverageDataError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.what


def _program(
    paths: Sequence[str], digest: str, counters: Sequence[str], problems: list[Problem]
) -> Program | None:
    """The first good one of some copies of a meta-data file, and its counters."""
    for path in paths:
        try:
            raw = _bytes(path)
            meta = metafile.read(raw)
            if meta.hash.hex() != digest:
                raise CoverageDataError(f"its content is that of covmeta.{meta.hash.hex()}")
        except (OSError, CoverageDataError) as error:
            problems.append(Problem(Kind.BAD, path, _reason(error)))
        else:
            total = _total(meta, counters, problems)
            if not total.files:
                reason = "no counters: still running, killed, or ended without running its exit"
                problems.append(Problem(Kind.IDLE, path, reason))
            return Program(meta, raw, total.counters(), total.files, path)
    reason = f"counters whose covmeta.{digest} cannot be read"
    problems += [Problem(Kind.ORPHAN, name, reason) for name in counters]
    return None


def _total(meta: Meta, counters: Sequence[str], problems: list[Problem]) -> Total:
    """Add up counter files. One process at one time writes one file: a copy of it is left out."""
    total = Total(meta)
    often = Counter(map(_base, counters))
    seen: dict[tuple[str, bytes], str] = {}
    for name in counters:
        try:
            data = _bytes(name)
        except (OSError, CoverageDataError) as error:
            problems.append(Problem(Kind.BAD, name, _reason(error)))
            continue
        if often[_base(name)] > 1:
            import hashlib  # 5 ms, and files of one name are rare

            key = _base(name), hashlib.blake2b(data).digest()
            if key in seen:
                problems.append(Problem(Kind.DUPLICATE, name, f"a copy of {seen[key]}"))
                continue
            seen[key] = name
        total.add(name, data)
    total.finish()
    problems += [Problem(Kind.BAD, name, reason) for name, reason in sorted(total.bad.items())]
    return total


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _mixed(programs: Sequence[Program], texts: Sequence[Profile]) -> list[Problem]:
    """What was built twice, and what counts differently."""
    builds: dict[str, dict[bytes, str]] = {}
    for program in programs:
        for package in program.meta.packages:
            builds.setdefault(package.path, {}).setdefault(package.hash, program.hash)
    problems = [
        Problem(
            Kind.BUILDS,
            f"package {path}",
            f"{len(hashes)} builds of different source: in programs "
            + " and ".join(sorted(hashes.values())),
        )
        for path, hashes in sorted(builds.items())
        if len(hashes) > 1
    ]
    modes = {program.meta.mode for program in programs} | {text.mode for text in texts}
    if len(modes) > 1:
        names = " and ".join(mode.name.lower() for mode in sorted(modes))
        problems.append(Problem(Kind.MODES, "counter modes", f"{names} are mixed"))
    return problems


def write(store: Store, directory: str | os.PathLike[str]) -> None:
    """Write every program with its counters merged: one `covmeta`, one `covcounters` for each.

    As `go tool covdata merge`, but the same input gives the same files: their time is 0.

    Args:
        store: what to write; text profiles cannot be.
        directory: created if it is missing.

    Raises:
        OSError: it cannot be written.

    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for program in store.programs:
        meta, *counters = file_names(program)
        (target / meta).write_bytes(program.raw)
        for name in counters:
            data = counterfile.write(program.meta, [counterfile.Segment(program.counters)])
            (target / name).write_bytes(data)


def file_names(program: Program) -> list[str]:
    """The files that `write` makes of a program: meta data, and counters if it has any."""
    counters = [counterfile.file_name(program.meta.hash, 0, 0)] if program.files else []
    return [f"covmeta.{program.hash}", *counters]
