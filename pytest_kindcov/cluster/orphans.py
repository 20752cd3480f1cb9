"""Clusters whose run is dead: found, named, and removed if they are certainly ours."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.cluster import owners
from pytest_kindcov.cluster.engine import EXTERNAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindcov.cluster.engine import Container, Engine
    from pytest_kindcov.cluster.owners import Owner

_OURS = re.compile(r"kindcov-[0-9]+-.+")


@dataclass(frozen=True)
class Orphan:
    """What a dead run left.

    Args:
        owner: the run.
        nodes: names of its cluster's containers; none when only files are left.

    """

    owner: Owner
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        what = f"cluster {self.owner.cluster} ({self.owner.engine})" if self.nodes else "files"
        return f"{what} of {self.owner}"


@dataclass(frozen=True)
class Found:
    """The clusters of an engine that no run uses.

    Args:
        orphans: ours, their runs are dead.
        unknown: names like ours, but nobody here knows whose they are.
        kept: ours, and they were to stay.
        borrowed: not ours; dead runs that used them did not give them back as they were.

    """

    orphans: tuple[Orphan, ...]
    unknown: tuple[str, ...]
    kept: tuple[Owner, ...]
    borrowed: tuple[Owner, ...] = ()


def find(engine: Engine, clusters: Mapping[str, Sequence[Container]]) -> Found:
    """Look for them.

    Args:
        engine: that was asked for the clusters.
        clusters: all of its clusters, by name.

    """
    known = owners.owners(engine)
    orphans, borrowed = [], []
    for name, owner in known.items():
        nodes = tuple(container.name for container in clusters.get(name, ()))
        if owner.attached and nodes:
            borrowed += [owner] if owner.alive() is False else []
            continue
        if owner.alive() is not False or (owner.kept and nodes):
            continue
        if nodes or _scratch(owner):
            orphans.append(Orphan(owner, nodes))
        else:
            owners.release(name, engine)  # somebody deleted it by hand
    unknown = [name for name in clusters if name not in known and _OURS.fullmatch(name)]
    kept = [owner for name, owner in known.items() if owner.kept and name in clusters]
    return Found(tuple(orphans), tuple(sorted(unknown)), tuple(kept), tuple(borrowed))


def borrowed_by_api() -> list[Owner]:
    """Dead runs that did not give back a cluster which no engine has: see `cluster.external`."""
    return [
        owner
        for owner in owners.owners().values()
        if owner.engine == EXTERNAL and owner.attached and owner.alive() is False
    ]


def remove(orphan: Orphan, engine: Engine) -> None:
    """Remove a dead run's cluster, its volumes and its files.

    Raises:
        CommandError: the engine could not remove the containers.

    """
    if orphan.owner.alive() is not False:
        return
    if orphan.nodes:
        engine.remove_containers(orphan.nodes)
    engine.remove_volumes(orphan.owner.cluster)
    remove_files(orphan.owner)
    owners.release(orphan.owner.cluster, engine)


def remove_files(owner: Owner) -> None:
    """Remove a dead run's temporary directory."""
    scratch = _scratch(owner)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch(owner: Owner) -> Path | None:
    """The run's temporary directory, if it is still there and certainly that."""
    path = Path(owner.scratch)
    if not owner.scratch or not path.name.startswith(f"kindcov-{owner.pid}-"):
        return None
    with contextlib.suppress(OSError):
        status = path.lstat()
        if path.is_dir() and not path.is_symlink() and status.st_uid == os.getuid():
            return path
    return None
