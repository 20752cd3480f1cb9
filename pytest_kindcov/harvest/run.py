"""The harvest: stop the services, copy their files off all nodes, merge, say what is missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindcov.errors import HarvestError, KindCovError
from pytest_kindcov.harvest import files, raw, verdict
from pytest_kindcov.harvest.stop import Ends, stop
from pytest_kindcov.report import contexts, datafile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.harvest.probes import Probes
    from pytest_kindcov.harvest.record import Recorder
    from pytest_kindcov.report.model import Summary
    from pytest_kindcov.service.deploy import Deployed


@dataclass
class Harvest:
    """What a harvest brought."""

    summary: Summary | None = None
    errors: list[KindCovError] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extent: str = ""
    """How many containers, files and nodes the data is from."""


def harvest(
    api: Api | None,
    nodes: list[Node],
    services: Sequence[Deployed],
    directory: Path,
    *,
    root: Path,
    live: tuple[Recorder, Probes | None] | None = None,
    allow: Sequence[str] = (),
) -> Harvest:
    """Harvest all containers of all nodes, those of other people's workloads included.

    Args:
        api: the cluster; None where it does not answer: then nothing is stopped.
        nodes: all its nodes.
        services: those that must give coverage.
        directory: gets `covdata/`, `coverage.out` and `.coverage`, of this run alone.
        root: of the repository.
        live: what was read of the running services, and of their probes; without these nothing is
            known of who ran what.
        allow: verdicts by which data may be lost, `KIND` or `KIND:GLOB`.

    """
    result = Harvest()
    recorder, probes = live or (None, None)
    if recorder is not None:
        if probes is not None and api is not None:
            probes.learn(api.list("v1", "Pod"), recorder)
        recorder.stopping()
    before = files.collect(nodes).containers
    ends = stop(api, before, {service.image for service in services}) if api else Ends()
    # What started after the stop began (a controller's replacement pod) served no test.
    known = {container.id for container in before}
    after = files.collect(nodes)
    containers = [container for container in after.containers if container.id in known]
    result.problems += after.problems
    seen: Mapping[str, verdict.Seen] = {}
    if recorder is not None:
        recorder.close()
        seen = recorder.seen()
    verdicts = verdict.judge(containers, ends, seen) if api else []
    if recorder is not None:
        recorder.complete(containers)
        result.problems += recorder.problems
    silent = [
        error
        for service in services
        if (own := verdict.containers_of(service, containers)) is not None
        and (error := verdict.explain(service.title, service.image, own, ends.said, ends.reasons))
    ]
    result.errors += silent
    for found in verdicts:
        if not found.loses:
            result.notes.append(str(found))
        elif found.allowed(allow):
            result.notes.append(f"{found}; allowed")
        elif not any(found.container.title in str(error) for error in silent):
            result.errors.append(found.error())
    _prepare(directory)
    raw.write(containers, directory / "covdata")
    with_data = [container for container in containers if container.has_counters]
    if with_data:
        result.summary, problems = summarise(directory)
        result.problems += problems
    elif not services:
        result.errors.append(
            HarvestError(
                "no coverage data was found on the cluster",
                cause="no container ran a program that was built with -cover",
                remedy="deploy the service with go_service(...), or build its image with"
                " `go build -cover`",
                slug="no-coverage",
            )
        )
    if recorder is not None and probes is not None:
        metas, ran = recorder.contexts(probes.periods, probes.known)
        contexts.write(directory, root, metas, ran.items())
    else:
        (directory / datafile.NAME).unlink(missing_ok=True)  # of an earlier run
    count = sum(len(container.files) for container in with_data)
    result.extent = ", ".join(
        _counted(number, word)
        for number, word in ((len(with_data), "container"), (count, "file"), (len(nodes), "node"))
    )
    return result


def summarise(directory: Path) -> tuple[Summary | None, list[str]]:
    """Merge `covdata/` into `coverage.out`, Go's text profile, and sum it up.

    Returns:
        The summary, None when there was nothing to merge; and what was left out or is doubtful.

    """
    from pytest_kindcov.covdata import profile as profiles
    from pytest_kindcov.covdata import store as stores
    from pytest_kindcov.report.covdata import summary

    store = stores.read([directory / "covdata"])
    profile = store.profile()
    if profile is None:
        return None, [str(problem) for problem in store.problems]
    partial = directory / "coverage.partial"
    partial.write_bytes(profiles.write(profile))
    partial.rename(directory / "coverage.out")
    # Programs without counters are named by their containers.
    named = [str(problem) for problem in store.problems if problem.kind is not stores.Kind.IDLE]
    return summary(profile), named


def forget(directory: Path) -> None:
    """Remove what an earlier run's harvest wrote."""
    shutil.rmtree(directory / "covdata", ignore_errors=True)
    for name in ("coverage.out", "covdata.json", datafile.NAME):
        (directory / name).unlink(missing_ok=True)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _prepare(directory: Path) -> None:
    """The output directory, which keeps itself out of git, without an earlier run's profile."""
    directory.mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    (directory / "coverage.out").unlink(missing_ok=True)
