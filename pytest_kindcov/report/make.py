"""The one `Report` from what was read: sources found, files left out, lines, figures."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.report import globs, sources
from pytest_kindcov.report.lines import lines as lines_of
from pytest_kindcov.report.model import (
    Container,
    Issue,
    LeftOut,
    Phase,
    Program,
    Report,
    Sides,
    Source,
)
from pytest_kindcov.report.tally import Tally
from pytest_kindcov.report.texts import counted, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.covdata.profile import File, Profile
    from pytest_kindcov.covdata.store import Store
    from pytest_kindcov.report.model import Previous
    from pytest_kindcov.report.tree import Tree

_Part = TypeVar("_Part", Container, Issue, Phase)


@dataclass(frozen=True)
class Run:
    """What is known of a run besides its coverage data; nothing of files without one."""

    time: float = 0.0
    title: str = ""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """By path in the repository, digests of its Go files from before the build."""
    containers: tuple[Container, ...] = ()
    issues: tuple[Issue, ...] = ()
    phases: tuple[Phase, ...] = ()
    data: Path | None = None
    tests: Mapping[str, str] = field(default_factory=dict)
    """By node id how each test ended: passed, failed, skipped, or "" if it did not end."""
    tree: Tree | None = None
    """What the working tree was before the build; None if it is not known."""
    data_time: float = 0.0
    """When the data file was written that belongs to it."""


def report(
    store: Store,
    own: Repository,
    run: Run,
    *,
    unit: Store | None = None,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    previous: Previous | None = None,
) -> Report | None:
    """Make the report.

    Args:
        store: what was covered in the cluster, or all there is.
        own: the repository.
        run: what is known of the run.
        unit: what unit tests covered; joins the figures.
        include: globs of files and packages, as in `globs`; none: all.
        exclude: the same, and `generated`.
        previous: the run before.

    Returns:
        The report, without gates and patch; None when there are no coverage data.

    """
    profile = store.profile()
    if profile is None:
        return None
    issues = [Issue(str(p.kind), shown(p.name), shown(p.reason)) for p in store.problems]
    sides = None
    other = unit.profile() if unit is not None else None
    if unit is not None:
        issues += [Issue(str(p.kind), shown(p.name), shown(p.reason)) for p in unit.problems]
    if other is not None:
        issues += unlike(profile, other)
        profile, sides = join(profile, other)
    edges = np.searchsorted(profile.file, np.arange(len(profile.files) + 1)).tolist()
    files = [
        _source(figures, profile.units[first:last], own, run.recorded)
        for figures, first, last in zip(profile.by_file(), edges[:-1], edges[1:], strict=True)
    ]
    reasons = [globs.why_not(file, include, exclude) for file in files]
    issues += [
        Issue("unused glob", shown(glob), "there is no such file or package to include")
        for glob in globs.unused(files, include)
    ]
    keep = np.array([not why for why in reasons], bool)
    if not keep.all():
        of_kept = keep[profile.file]
        if sides is not None:
            sides = Sides(sides.e2e[of_kept], sides.unit[of_kept])
        profile = select(profile, keep)
    kept = [file for file, why in zip(files, reasons, strict=True) if not why]
    lines, of_lines = lines_of(profile.file, len(kept), profile.units, profile.counts)
    of_blocks = np.searchsorted(profile.file, np.arange(len(kept) + 1))
    issues += _not_painted(kept)
    return Report(
        root=own.root,
        time=run.time or time.time(),
        title=shown(run.title),
        profile=profile,
        files=tuple(
            dataclasses.replace(
                file,
                blocks=slice(int(of_blocks[number]), int(of_blocks[number + 1])),
                lines=slice(int(of_lines[number]), int(of_lines[number + 1])),
            )
            for number, file in enumerate(kept)
        ),
        lines=lines,
        programs=tuple(
            Program(
                hash=program.hash,
                mode=program.meta.mode.name.lower(),
                packages=len(program.meta.packages),
                functions=program.meta.functions,
                units=len(program.meta),
                files=program.files,
            )
            for program in store.programs
        ),
        containers=tuple(map(_printable, run.containers)),
        issues=(*map(_printable, run.issues), *issues),
        phases=tuple(map(_printable, run.phases)),
        left_out=tuple(
            LeftOut(dataclasses.replace(file.tally, name=file.shown), why)
            for file, why in zip(files, reasons, strict=True)
            if why
        ),
        sides=sides,
        previous=previous,
        data=run.data,
        store=store,
    )


def _source(
    figures: tuple[File, int, int],
    units: npt.NDArray[np.uint32],
    own: Repository,
    recorded: Mapping[str, str],
) -> Source:
    """A file of a profile, its statements and those that ran; its places come later."""
    file, statements, ran = figures
    found = sources.find(file.path, own)
    return Source(
        name=shown(file.path),
        package=shown(file.package),
        path=shown(found.path),
        file=found.file,
        generated=sources.generated(found.text),
        changed=sources.changed(found, units, recorded),
        tally=Tally(shown(file.path), statements, ran),
        blocks=slice(0, 0),
        lines=slice(0, 0),
    )


def _printable(one: _Part) -> _Part:
    """The same, with texts that can be printed: the cluster and its pods chose them."""
    texts: dict[str, Any] = {
        field.name: shown(value)
        for field in dataclasses.fields(one)
        if isinstance(value := getattr(one, field.name), str)
    }
    return dataclasses.replace(one, **texts)


def _not_painted(files: list[Source]) -> list[Issue]:
    """What must not be painted on its source, in one sentence."""
    names = [file.shown for file in files if file.changed]
    if not names:
        return []
    more = f" and {counted(len(names) - 3, 'more file')}" if len(names) > 3 else ""
    reason = "changed since the build: its lines may be others now"
    return [Issue("changed", ", ".join(names[:3]) + more, reason)]


def select(profile: Profile, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Profile:
    """A profile without some of its files.

    Args:
        profile: all.
        keep: bool[F], which files stay.

    """
    of_kept = keep[profile.file]
    place = np.cumsum(keep) - 1
    return dataclasses.replace(
        profile,
        files=tuple(file for file, stays in zip(profile.files, keep, strict=True) if stays),
        file=place[profile.file[of_kept]].astype(np.int32),
        function=profile.function[of_kept],
        units=profile.units[of_kept],
        counts=profile.counts[of_kept],
    )


def join(e2e: Profile, unit: Profile) -> tuple[Profile, Sides]:
    """Both together, and which of them ran what."""

    def without(profile: Profile) -> Profile:
        return dataclasses.replace(profile, counts=np.zeros_like(profile.counts))

    # How blocks are sorted and joined does not depend on their counts: places stay the same.
    return profiles.merge([e2e, unit]), Sides(
        profiles.merge([e2e, without(unit)]).covered,
        profiles.merge([without(e2e), unit]).covered,
    )


def unlike(e2e: Profile, unit: Profile) -> list[Issue]:
    """Files that both have with other blocks: they were built from different source."""

    def shapes(profile: Profile) -> dict[str, bytes]:
        edges = np.searchsorted(profile.file, np.arange(len(profile.files) + 1)).tolist()
        return {
            file.path: np.unique(profile.units[first:last], axis=0).tobytes()
            for file, first, last in zip(profile.files, edges[:-1], edges[1:], strict=True)
        }

    of_unit = shapes(unit)
    return [
        Issue("two builds", shown(path), "unit tests and E2E tests ran different source of it")
        for path, shape in shapes(e2e).items()
        if of_unit.get(path, shape) != shape
    ]
