"""The graceful stop: instrumented programs write their counters when they end, so they must end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import container_statuses
from pytest_kindcov.errors import HarvestError, KindCovError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.harvest.files import Container

# Seconds that the kubelet needs beyond a pod's own grace period, generously.
_BEYOND_GRACE = 20.0
_GRACE = 30.0  # Kubernetes' default terminationGracePeriodSeconds
# Of a Go panic: what it says, and the function that panicked.
_LAST_LINES = 12
_FAILURES = ("coverage meta-data emit failed", "coverage counter data emit failed", "GOCOVERDIR")


@dataclass
class Ends:
    """How containers ended, by container id, as far as the API server was seen to say it."""

    reasons: dict[str, str] = field(default_factory=dict)
    """Such as `exit code 137 (OOMKilled)`."""
    said: dict[str, str] = field(default_factory=dict)
    """What the program said of its coverage on standard error."""
    last: dict[str, str] = field(default_factory=dict)
    """The last lines of its log, of each that ended by itself and left no counters."""
    grace: dict[str, float] = field(default_factory=dict)
    """Seconds that those which were stopped had to end."""
    error: KindCovError | None = None
    """Why not all were stopped."""


def stop(api: Api, containers: list[Container], images: set[str]) -> Ends:
    """End the pods in which an instrumented program still runs, and wait until they are gone.

    Pods are deleted, with their own grace period; their controllers and all other objects are left
    alone, so a service on a kept cluster comes back.

    Args:
        api: the cluster.
        containers: what the nodes know of their containers.
        images: full names of the services' images: what their programs said is looked up when they
            have left no file.

    Returns:
        How they ended, as far as that was seen: also when a pod did not go in time, or the API
        server stopped answering.

    """
    ends = Ends()
    try:
        _stop(api, containers, images, ends)
    except KindCovError as error:
        ends.error = error
    return ends


def _stop(api: Api, containers: list[Container], images: set[str], ends: Ends) -> None:
    known = {container.id: container for container in containers}
    doomed: dict[str, Object] = {}
    for pod in api.list("v1", "Pod"):
        _note(pod, ends)
        _keep_last_lines(api, pod, known, ends)
        for status in container_statuses(pod):
            container = known.get(_identity(status))
            if container is None or "running" not in (status.get("state") or {}):
                continue
            if not container.has_meta and container.image in images:
                ends.said[container.id] = _coverage_lines(api, pod, status["name"])
            if container.has_meta:  # also beside counters: a child may have written those
                doomed[pod["metadata"]["uid"]] = pod
                ends.grace[container.id] = _grace(pod)
    for pod in doomed.values():
        metadata = pod["metadata"]
        api.delete("v1", "Pod", metadata["name"], metadata["namespace"])
    if not doomed:
        return
    grace = max(map(_grace, doomed.values()))
    left: list[str] = []

    def gone() -> bool:
        left.clear()
        for pod in api.list("v1", "Pod"):
            if pod["metadata"]["uid"] in doomed:
                _note(pod, ends)
                left.append(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
        return not left

    wait_until(
        gone,
        what="end of the services",
        timeout=grace + _BEYOND_GRACE,
        interval=0.05,
        state=lambda: "still there: " + ", ".join(left),
        slug="services-not-ended",
        error=HarvestError,
    )


def _grace(pod: Object) -> float:
    seconds = pod["spec"].get("terminationGracePeriodSeconds")
    return _GRACE if seconds is None else float(seconds)


def _identity(status: Object) -> str:
    return str(status.get("containerID") or "").partition("://")[2]


def _note(pod: Object, ends: Ends) -> None:
    """Keep how containers ended, the current one and the one before it."""
    for status in container_statuses(pod):
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            ended = state.get("terminated")
            if ended:
                identity = str(ended.get("containerID") or "").partition("://")[2]
                ends.reasons[identity] = (
                    f"exit code {ended.get('exitCode')} ({ended.get('reason')})"
                )


def _keep_last_lines(api: Api, pod: Object, known: dict[str, Container], ends: Ends) -> None:
    """Keep why containers ended that had coverage to write and did not: their logs say it."""
    for status in container_statuses(pod):
        for field_name in ("state", "lastState"):
            ended = (status.get(field_name) or {}).get("terminated") or {}
            container = known.get(_identity(ended))
            if container is None or not container.has_meta or container.has_counters:
                continue
            metadata = pod["metadata"]
            previous = field_name == "lastState"
            ends.last[container.id] = api.logs(
                metadata["namespace"],
                metadata["name"],
                status["name"],
                previous=previous,
                lines=_LAST_LINES,
            ).strip()


def _coverage_lines(api: Api, pod: Object, container: str) -> str:
    metadata = pod["metadata"]
    text = api.logs(metadata["namespace"], metadata["name"], container, lines=2000)
    return "\n".join(line for line in text.splitlines() if any(word in line for word in _FAILURES))
