"""The harvest: stop the services, copy their files off all nodes, say what is missing."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import ClusterError, HarvestError, KindCovError
from pytest_kindcov.harvest import files, raw, verdict
from pytest_kindcov.harvest.stop import Ends, stop
from pytest_kindcov.report import combine, contexts, datafile, model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.covdata.model import Ints, Meta
    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.harvest.files import Container
    from pytest_kindcov.harvest.probes import Probes
    from pytest_kindcov.harvest.record import Recorder
    from pytest_kindcov.service.deploy import Deployed

# Seconds for which an API server that restarts is waited for: the kubelet needs some 10 s for it.
_RESTART = 45.0
_BETWEEN = 0.5

NO_COVERAGE = "not instrumented"
"""The verdict on a container of a service that ran a program without coverage."""


@dataclass
class Harvest:
    """What a harvest brought."""

    errors: list[KindCovError] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extent: str = ""
    """How many containers, files and nodes the data is from."""
    containers: list[model.Container] = field(default_factory=list)
    """How those that concern the coverage ended."""
    has_data: bool = False
    """Whether any container wrote its counters."""
    data: Path | None = None
    """Who ran what, in coverage.py's format."""


def harvest(
    api: Api | None,
    nodes: list[Node],
    services: Sequence[Deployed],
    directory: Path,
    *,
    own: Repository,
    live: tuple[Recorder, Probes | None] | None = None,
    allow: Sequence[str] = (),
    collect: Callable[[], files.Collected] | None = None,
    append: bool = False,
) -> Harvest:
    """Harvest all containers of all nodes, those of other people's workloads included.

    Args:
        api: the cluster; None where it does not answer: then nothing is stopped.
        nodes: all its nodes.
        services: those that must give coverage.
        directory: gets `covdata/` and `.coverage`.
        own: the repository.
        live: what was read of the running services, and of their probes; without these nothing is
            known of who ran what.
        collect: gives the files of all containers; default: off the nodes.
        allow: verdicts by which data may be lost, `KIND` or `KIND:GLOB`.
        append: whether earlier runs' data stay and count; else they go.

    """
    result = Harvest()
    recorder, probes = live or (None, None)
    judged = api is not None
    if api is not None:
        pods = _pods(api, nodes, result)
        if pods is None:
            api = None
        elif recorder is not None and probes is not None:
            probes.learn(pods, recorder)
    collect = collect or (lambda: files.collect(nodes))
    # In this order: what had begun by now was met, has meta data, or is met by the last reading.
    met = recorder.met() if recorder is not None else None
    before = collect()
    if recorder is not None:
        recorder.stopping()
    ends = stop(api, before.containers, {service.image for service in services}) if api else Ends()
    after = collect()
    containers = _counting(before, after, recorder, met)
    result.problems += after.problems
    result.errors += [*([ends.error] if ends.error else []), *after.errors.values()]
    seen: Mapping[str, verdict.Seen] = {}
    if recorder is not None:
        recorder.close()
        seen = recorder.seen(containers)
    verdicts = verdict.judge(containers, ends, seen) if judged else []
    if recorder is not None:
        recorder.complete(containers)
        result.problems += recorder.problems
    silent = [
        error
        for service in services
        if (its := verdict.containers_of(service, containers)) is not None
        and (error := verdict.explain(service.title, service.image, its, ends.said, ends.reasons))
    ]
    result.errors += silent
    for found in verdicts:
        if not found.loses:
            result.notes.append(str(found))
        elif found.allowed(allow):
            result.notes.append(f"{found}; allowed")
        elif not any(found.container.title in str(error) for error in silent):
            result.errors.append(found.error())
    result.containers = _described(containers, verdicts, services, allow)
    try:
        _prepare(directory)
        raw.write(containers, directory / "covdata", append=append)
    except OSError as error:
        result.errors.append(_saved_elsewhere(containers, directory, error))
        return result
    with_data = [container for container in containers if container.has_counters]
    result.has_data = bool(with_data)
    if not with_data and not services:
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
        try:
            result.data = _write_contexts(directory, own, metas, ran, append=append)
        except KindCovError as error:  # the total does not depend on it
            result.errors.append(error)
    elif not append:
        (directory / datafile.NAME).unlink(missing_ok=True)  # of an earlier run
    count = sum(len(container.files) for container in with_data)
    result.extent = ", ".join(
        _counted(number, word)
        for number, word in (
            (len(with_data), "container"),
            (count, "file"),
            (len(nodes) or len({container.node for container in with_data}), "node"),
        )
    )
    return result


def _pods(api: Api, nodes: Sequence[Node], result: Harvest) -> list[Object] | None:
    """All pods; None, with an error, where the API server does not answer, or not in time."""
    deadline = time.monotonic() + _RESTART
    while True:
        try:
            return api.list("v1", "Pod")
        except ClusterError as error:
            why = error
        if time.monotonic() > deadline or not _any_runs(nodes):
            break
        time.sleep(_BETWEEN)
    result.errors.append(
        HarvestError(
            "the services could not be stopped, so they wrote no coverage files",
            cause=why.headline,
            remedy="what they ran until they were last read counts; is the cluster still there?",
            slug="services-not-stopped",
        )
    )
    return None


def _any_runs(nodes: Sequence[Node]) -> bool:
    for node in nodes:
        with contextlib.suppress(KindCovError):
            if node.engine.is_running(node.name):
                return True
    return False


def _counting(
    before: files.Collected,
    after: files.Collected,
    recorder: Recorder | None,
    met: set[str] | None,
) -> list[Container]:
    """The containers that count, with the last that could be had of their files.

    What started after the stop began (a controller's replacement pod) served no test; nor did a
    container of which only the program had not begun (a restart in the moment of the stop).

    Args:
        before: collected before the last reading; a program writes meta data before all else.
        after: collected after the stop.
        recorder: knows the containers of a node of which no files could be had.
        met: those of which a process was read before the files were; None if none can be.

    """
    known = {container.id for container in before.containers}
    unread = set(before.errors) - {container.node for container in before.containers}
    found = {
        container.id: container
        for container in after.containers
        if container.id in known or container.node in unread
    }
    for node in after.errors:
        of_node = [one for one in before.containers if one.node == node]
        for container in of_node or (recorder.containers(node) if recorder is not None else []):
            found.setdefault(container.id, container)
    if met is None:
        return list(found.values())
    begun = met | {container.id for container in before.containers if container.has_meta}
    instrumented = {one.title for one in found.values() if one.has_meta}
    return [
        one
        for one in found.values()
        if one.id in begun or one.title not in instrumented or one.node in before.errors
    ]


def _saved_elsewhere(
    containers: Sequence[Container], directory: Path, error: OSError
) -> HarvestError:
    """Why a directory cannot be written, and where the coverage files are instead."""
    remedy = "make room there, or name another directory: --kind-coverage-dir"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    with contextlib.suppress(OSError):
        saved = Path(tempfile.mkdtemp(prefix="kindcov-saved-"))
        raw.write(list(containers), saved / "covdata")
        remedy += f"; this run's coverage is in {saved}: kindcov report {saved / 'covdata'}"
    return HarvestError(
        f"{directory} cannot be written",
        cause=error.strerror or str(error),
        remedy=remedy,
        slug="disk-full" if full else "directory-not-writable",
    )


def _write_contexts(
    directory: Path,
    own: Repository,
    metas: Mapping[bytes, Meta],
    ran: Mapping[str, Mapping[bytes, Ints]],
    *,
    append: bool,
) -> Path:
    """Write who ran what, of this run, or added to what is there."""
    old = directory / datafile.NAME
    if not append or not old.exists():
        return contexts.write(directory, own, metas, ran.items())
    with tempfile.TemporaryDirectory(prefix="tmp.", dir=directory) as scratch:
        new = contexts.write(scratch, own, metas, ran.items())
        return combine.combine(directory, [new, old], own)


def _described(
    containers: Sequence[Container],
    verdicts: Sequence[verdict.Verdict],
    services: Sequence[Deployed],
    allow: Sequence[str],
) -> list[model.Container]:
    """How the containers ended that ran an instrumented program, or belong to a service."""
    judged = {found.container.id: found for found in verdicts}
    ours = {
        container.id
        for service in services
        for container in verdict.containers_of(service, containers)
    }
    described = []
    for one in containers:
        if not one.has_meta and one.id not in ours:
            continue
        found = judged.get(one.id)
        described.append(
            model.Container(
                name=f"{one.namespace}/{one.pod}/{one.name}",
                node=one.node,
                image=one.image,
                verdict=str(found.kind) if found else "ok" if one.has_counters else NO_COVERAGE,
                text=str(found) if found else "",
                loses=found is not None and found.loses,
                allowed=found is not None and found.loses and found.allowed(allow),
                programs=tuple(
                    name.partition(".")[2]
                    for name in sorted(one.files)
                    if files.META.fullmatch(name)
                ),
            )
        )
    return described


def forget(directory: Path) -> None:
    """Remove what an earlier run's harvest wrote."""
    shutil.rmtree(directory / "covdata", ignore_errors=True)
    for name in ("coverage.out", "covdata.json", "run.json", datafile.NAME):
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
