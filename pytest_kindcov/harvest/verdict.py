"""How each container ended for its coverage, and why a service gave none."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_kindcov.errors import HarvestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_kindcov.harvest.files import Container
    from pytest_kindcov.harvest.stop import Ends
    from pytest_kindcov.service.deploy import Deployed

# Seconds before the end of a pod's grace period from which on it may have been killed by it.
_NEAR = 1.0
# What SIGTERM alone gives: 128 + 15; and 2 from Go's runtime as process 1, which no signal ends.
_BY_SIGTERM = ("exit code 143 ", "exit code 2 ")


# How controllers name their pods, behind the workload's own name.
_POD = {
    "Pod": "",
    "Deployment": "-[0-9a-z]+-[0-9a-z]{5}",
    "StatefulSet": "-[0-9]+",
    "DaemonSet": "-[0-9a-z]{5}",
    "ReplicaSet": "-[0-9a-z]{5}",
    "Job": "(-[0-9]+)?-[0-9a-z]{5}",
    "CronJob": "-[0-9]+-[0-9a-z]{5}",
}


class Kind(StrEnum):
    """Verdicts on a container that started an instrumented program and left no exit file."""

    NO_HANDLER = "no-handler"
    """It ended at SIGTERM, and was read just before: complete."""
    KILLED = "killed"
    """It ended by itself; what it ran after the last reading is missing."""
    OVERRAN = "overran"
    """It ran over its grace period; what it ran after the last reading is missing."""
    LOST = "lost"
    """It was never read: all that it ran is missing."""


@dataclass(frozen=True)
class Seen:
    """What the live reading knows of a container.

    Args:
        last: seconds since 1970, of the last reading of any of its processes.
        stopping: seconds from the beginning of the stop to that reading; None when it ended before.

    """

    last: float
    stopping: float | None


@dataclass(frozen=True)
class Verdict:
    """A verdict on one container."""

    kind: Kind
    container: Container
    ended: str
    """How it ended, such as `exit code 137 (OOMKilled)`; empty when nobody saw it."""
    seen: Seen | None
    last: str = ""
    """The last lines of its log, if they are there."""

    @property
    def loses(self) -> bool:
        """Whether what it ran may be missing."""
        return self.kind is not Kind.NO_HANDLER

    def __str__(self) -> str:
        ended = f" ({self.ended})" if self.ended else ""
        if self.kind is Kind.NO_HANDLER:
            return (
                f"{self.container.title} ended at SIGTERM without an exit file{ended}: it has no"
                " handler; its counters were read just before"
            )
        how = "was killed at the end of its grace period" if self.kind is Kind.OVERRAN else "ended"
        return f"{self.container.title} {how} without writing its counters{ended}"

    def error(self) -> HarvestError:
        """The verdict as an error."""
        if self.seen is None:
            cause = "it was not read while it ran: all that it ran is missing"
        else:
            cause = f"it was last read at {_clock(self.seen.last)}; what it ran later is missing"
        if self.last:
            cause += f"\nits log ends with:\n{self.last}"
        allow = f"allow it: kindcov_allow = {self.kind}:{self.container.namespace}/*"
        return HarvestError(
            str(self),
            cause=cause,
            remedy="raise terminationGracePeriodSeconds, or " + allow
            if self.kind is Kind.OVERRAN
            else "if the tests mean it to end like that, " + allow,
            slug="coverage-lost",
        )

    def allowed(self, patterns: Iterable[str]) -> bool:
        """Whether `KIND` or `KIND:GLOB` of `NAMESPACE/POD/CONTAINER` is among these."""
        name = f"{self.container.namespace}/{self.container.pod}/{self.container.name}"
        for pattern in patterns:
            kind, _, glob = pattern.partition(":")
            if kind == self.kind and fnmatchcase(name, glob or "*"):
                return True
        return False


def judge(containers: Sequence[Container], ends: Ends, seen: Mapping[str, Seen]) -> list[Verdict]:
    """Verdicts on the containers in which an instrumented program left no exit file.

    Args:
        containers: as they were collected after the stop.
        ends: how they ended.
        seen: by container id, what was read of processes that left none.

    """
    found = []
    for container in containers:
        read = seen.get(container.id)
        if not (read or container.has_meta) or (container.has_counters and read is None):
            continue
        ended = ends.reasons.get(container.id, "")
        if read is None:
            kind = Kind.LOST
        elif read.stopping is None:
            kind = Kind.KILLED
        elif read.stopping > ends.grace.get(container.id, 0.0) - _NEAR or "137" in ended:
            kind = Kind.OVERRAN
        elif ended and not ended.startswith(_BY_SIGTERM):
            kind = Kind.KILLED  # it ran its exit code and could not write, or broke off in it
        else:
            kind = Kind.NO_HANDLER
        found.append(Verdict(kind, container, ended, read, ends.last.get(container.id, "")))
    return found


def containers_of(service: Deployed, containers: Iterable[Container]) -> list[Container]:
    """The containers of a service: those of its workloads' pods; if there are none, of its image.

    The image alone does not say it: of equal images of two names containerd may report either.
    Pods that an operator makes have names that only it knows.
    """
    by_image = [container for container in containers if container.image == service.image]
    by_workload = [
        container
        for container in containers
        if container.name in service.containers
        and any(
            container.namespace == namespace
            and re.fullmatch(re.escape(name) + _POD.get(kind, ".*"), container.pod)
            for namespace, kind, name in service.workloads
        )
    ]
    return by_workload or by_image


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when)) + f".{when % 1 * 10:.0f}"[:2]


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
        containers: its containers, of all nodes.
        said: by container id, what the program said of its coverage.
        ended: by container id, how it ended.

    """
    if any(container.has_counters for container in containers):
        return None
    what = f"service {service} gave no coverage data"
    if not containers:
        return HarvestError(
            what,
            cause=f"no container of its image {image} was started",
            remedy="do its workloads have replicas, and is that the image they run?",
            slug="service-not-started",
        )
    for container in containers:
        if container.has_meta:
            return HarvestError(
                what,
                cause=f"{container.title} started with coverage but did not write its counters: "
                + ended.get(container.id, "it was killed, or ended without running its exit code"),
                remedy="the program must return from main or call os.Exit on SIGTERM, within its"
                " grace period",
                slug="no-exit-code-run",
            )
        if said.get(container.id):
            return HarvestError(
                what,
                cause=f"{container.title} said: {said[container.id]}",
                slug="coverage-not-written",
            )
    return HarvestError(
        what,
        cause=f"{containers[0].title} runs a program that was not built with -cover, or whose main"
        " package is not among -coverpkg",
        remedy="build it with `go build -cover`, or let go_service build it from its package",
        slug="not-instrumented",
    )
