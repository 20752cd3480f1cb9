"""Collected files onto the disk and into one text profile, by Go's own covdata tool."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from pytest_kindcov._run import run
from pytest_kindcov.errors import CommandError, HarvestError
from pytest_kindcov.harvest.files import COUNTERS, Container
from pytest_kindcov.service.build import go_tool

if TYPE_CHECKING:
    from pathlib import Path

_MERGE = 300.0


def write_raw(containers: list[Container], directory: Path) -> None:
    """Write all coverage files flat into a directory, as `go tool covdata -i` reads it.

    What an earlier run left there is removed first: its counts must not join this run's. Counter
    files of two containers can bear one name (process 1 in both): the later one's time stamp in
    the name is counted up until it is free.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    origin: dict[str, str] = {}
    for container in containers:
        for name, data in sorted(container.files.items()):
            free = _free_name(directory, name) if COUNTERS.fullmatch(name) else name
            (directory / free).write_bytes(data)
            if free not in origin:
                origin[free] = container.title
    (directory.parent / "covdata.json").write_text(json.dumps(origin, indent=1, sort_keys=True))


def _free_name(directory: Path, name: str) -> str:
    stem, _, stamp = name.rpartition(".")
    number = int(stamp)
    while (directory / f"{stem}.{number}").exists():
        number += 1
    return f"{stem}.{number}"


def to_profile(directory: Path, profile: Path) -> None:
    """Merge a directory of coverage files into Go's text profile.

    Raises:
        HarvestError: the tool failed, or merged nothing (it exits with 0 then).

    """
    partial = profile.with_suffix(".partial")
    try:
        run(
            [go_tool(), "tool", "covdata", "textfmt", f"-i={directory}", f"-o={partial}"],
            timeout=_MERGE,
        )
        if not partial.exists() or not partial.stat().st_size:
            raise HarvestError("go tool covdata merged nothing", cause=f"input: {directory}")
        partial.rename(profile)
    except CommandError as error:
        raise HarvestError(
            "the coverage files cannot be merged",
            cause=error.output or str(error),
            remedy=f"the raw files are in {directory}",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def explain(
    service: str,
    image: str,
    containers: list[Container],
    said: dict[str, str],
    ended: dict[str, str],
) -> HarvestError | None:
    """Why a service's containers gave no coverage; None when they gave some.

    Args:
        service: its name.
        image: full name of its image.
        containers: all containers of all nodes.
        said: by container id, what the program said of its coverage.
        ended: by container id, how it ended.

    """
    own = [container for container in containers if container.image == image]
    if any(container.has_counters for container in own):
        return None
    what = f"service {service} gave no coverage data"
    if not own:
        return HarvestError(
            what,
            cause=f"no container of its image {image} was started",
            remedy="do its workloads have replicas, and is that the image they run?",
        )
    for container in own:
        if container.has_meta:
            return HarvestError(
                what,
                cause=f"{container.title} started with coverage but did not write its counters: "
                + ended.get(container.id, "it was killed, or ended without running its exit code"),
                remedy="the program must return from main or call os.Exit on SIGTERM, within its"
                " grace period",
            )
        if said.get(container.id):
            return HarvestError(what, cause=f"{container.title} said: {said[container.id]}")
    return HarvestError(
        what,
        cause=f"{own[0].title} runs a program that was not built with -cover, or whose main package"
        " is not among -coverpkg",
        remedy="build it with `go build -cover`, or let go_service build it from its package",
    )
