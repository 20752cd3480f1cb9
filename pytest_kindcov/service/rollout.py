"""The rollout: the wait until every workload is ready, or until it is certain that one never is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindcov._text import Secrets, clean
from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import container_statuses
from pytest_kindcov.errors import DeployError
from pytest_kindcov.service import faults, refusals

if TYPE_CHECKING:
    import threading

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.service.deploy import Workload
    from pytest_kindcov.service.faults import Fault

# Seconds between two looks at the events; most rollouts are over before the first.
_EVENTS = 2.0
_SHOWN = 8
_LOG_LINES = 8


def wait_ready(
    api: Api,
    workloads: list[Workload],
    *,
    service: str,
    timeout: float,
    cancel: threading.Event | None = None,
) -> None:
    """Wait until all workloads are rolled out.

    Raises:
        DeployError: not within `timeout` seconds, or before that when one never can be. Names the
            container, its reason and its last log lines.

    """
    ends = ("Job", "CronJob")  # nobody waits for these
    watch = _Watch(api, service, [each for each in workloads if each.kind not in ends])

    def late(what: str, *, cause: str, remedy: str, slug: str) -> DeployError:
        first = watch.faults[0] if watch.faults else None
        return DeployError(
            what,
            cause=cause,
            remedy=f"{first.remedy}; {remedy}" if first else remedy,
            slug=first.slug if first else slug,
        )

    wait_until(
        watch.ready,
        what=f"service {service}: rollout",
        timeout=timeout,
        interval=0.1,  # a look costs 5 ms
        state=watch.state,
        remedy="go_service(..., timeout=...) gives it longer",
        slug="rollout-timeout",
        cancel=cancel,
        error=late,
    )


def describe(api: Api, pod: Object) -> list[str]:
    """What keeps a pod from being ready, with the last lines of its containers' logs."""
    namespace = pod["metadata"]["namespace"]
    found = faults.of_pod(pod, api.list("v1", "Event", namespace))
    return [line for fault in found for line in [str(fault), *_log(api, pod, fault)]]


def select(api: Api, namespace: str, labels: dict[str, str]) -> list[Object]:
    """The pods of a namespace that bear all of these labels."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return api.list("v1", "Pod", namespace, selector)


@dataclass
class _Watch:
    """Workloads that are waited for, and what is wrong with them."""

    api: Api
    service: str
    waiting: list[Workload]
    faults: list[Fault] = field(default_factory=list)
    """The most telling first."""
    _pods: dict[str, Object] = field(default_factory=dict)
    """By `Fault.where` without the container, to find logs."""
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _events: dict[str, tuple[float, list[Object]]] = field(default_factory=dict)
    _images: list[str] | None = None

    def ready(self) -> bool:
        """Whether all are rolled out.

        Raises:
            DeployError: one never will be.

        """
        found: list[Fault] = []
        for workload in list(self.waiting):
            obj = self.api.get(
                workload.api_version, workload.kind, workload.name, workload.namespace
            )
            if obj is not None and rolled_out(workload.kind, obj) and self._renewed(workload):
                self.waiting.remove(workload)
            elif obj is not None:
                found += self._look(workload, obj)
        found.sort(key=lambda fault: (fault.patience is None, fault.slug == "container-waiting"))
        self.faults = found
        now = time.monotonic()
        # A fault that went away begins anew.
        self._since = {
            (fault.slug, fault.where): self._since.get((fault.slug, fault.where), now)
            for fault in found
        }
        for fault in found:
            since = self._since[fault.slug, fault.where]
            if fault.patience is not None and now - since >= fault.patience:
                raise self._final(fault)
        return not self.waiting

    def _renewed(self, workload: Workload) -> bool:
        """Whether new pods have taken the old ones' places.

        Old ones that are left when all is rolled out are of a workload that did not change: they
        are deleted. Its status may be of before for a while: its pods are looked at.
        """
        if not workload.old:
            return True
        pods = select(self.api, workload.namespace, workload.labels)
        for pod in pods:
            metadata = pod["metadata"]
            if metadata["uid"] in workload.old and not metadata.get("deletionTimestamp"):
                self.api.delete("v1", "Pod", metadata["name"], metadata["namespace"])
        return bool(pods) and all(
            rolled_out("Pod", pod) and pod["metadata"]["uid"] not in workload.old for pod in pods
        )

    def state(self) -> str:
        """What keeps them, line by line."""
        told = [line for fault in self.faults[:_SHOWN] for line in self._lines(fault)]
        named = " ".join(fault.where for fault in self.faults)
        lines = [f"{workload.title} is not ready" for workload in self.waiting]
        more = len(self.faults) - _SHOWN
        return _shown(
            [
                *lines,
                *told,
                *([f"and {more} more of these"] if more > 0 else []),
                *([] if named else ["it has no pods, and its controller does not say why"]),
            ]
        )

    def _look(self, workload: Workload, obj: Object) -> list[Fault]:
        pods = [obj]
        found: list[Fault] = []
        events = self._events_of(workload.namespace)
        if workload.kind != "Pod":
            pods = select(self.api, workload.namespace, workload.labels)
            found += refusals.of_workload(obj, events)
        for pod in pods:
            self._pods[f"pod {pod['metadata']['name']}"] = pod
            seen = faults.of_pod(pod, events, self._images or ())
            if self._images is None and any(fault.slug.startswith("image-") for fault in seen):
                self._images = self._node_images()
                seen = faults.of_pod(pod, events, self._images)
            found += seen
        return found

    def _events_of(self, namespace: str) -> list[Object]:
        now = time.monotonic()
        asked, events = self._events.setdefault(namespace, (now, []))
        if now - asked >= _EVENTS:
            events = self.api.list("v1", "Event", namespace)
            self._events[namespace] = now, events
        return events

    def _node_images(self) -> list[str]:
        return [
            name
            for node in self.api.list("v1", "Node")
            for image in node["status"].get("images") or []
            for name in image.get("names") or []
        ]

    def _lines(self, fault: Fault) -> list[str]:
        pod = self._pods.get(fault.where.partition(",")[0])
        return [str(fault), *(_log(self.api, pod, fault) if pod else [])]

    def _final(self, fault: Fault) -> DeployError:
        what = (
            f"{fault.where} cannot run: {fault.reason}"
            if fault.container
            else (f"{fault.where}: {fault.reason.rstrip(':')}")
        )
        return DeployError(
            f"service {self.service}: {what}",
            cause=_shown([fault.message, *self._lines(fault)[1:]]),
            remedy=fault.remedy,
            slug=fault.slug,
        )


def rolled_out(kind: str, obj: Object) -> bool:
    """Whether a workload is as it should be: all of its pods are new and ready."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if kind == "Pod":
        conditions = status.get("conditions") or []
        return status.get("phase") == "Succeeded" or any(
            item.get("type") == "Ready" and item.get("status") == "True" for item in conditions
        )
    if (status.get("observedGeneration") or 0) < (obj["metadata"].get("generation") or 0):
        return False
    if kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled") or 0
        return bool(
            wanted
            and status.get("updatedNumberScheduled", 0) >= wanted
            and status.get("numberAvailable", 0) >= wanted
        )
    wanted = spec.get("replicas", 1)
    if kind == "ReplicaSet":
        return bool(status.get("availableReplicas", 0) >= wanted)
    return bool(
        (status.get("updatedReplicas") or 0) >= wanted
        and (status.get("replicas") or 0) <= wanted
        and (status.get("availableReplicas") or 0) >= wanted
    )


def _shown(lines: list[str]) -> str:
    """What Kubernetes and programs said, fit for a terminal."""
    return Secrets().hide(clean("\n".join(filter(None, lines))))


def _log(api: Api, pod: Object, fault: Fault) -> list[str]:
    """The last lines of the run that failed: the one before when the container waits or is new."""
    container = next(
        (each for each in container_statuses(pod) if each.get("name") == fault.container), None
    )
    if container is None or not (container.get("containerID") or container.get("restartCount")):
        return []
    metadata = pod["metadata"]
    state = container.get("state") or {}
    failed_before = bool(container.get("restartCount")) and "terminated" not in state
    for previous in (failed_before, not failed_before):
        text = api.logs(
            metadata["namespace"],
            metadata["name"],
            fault.container,
            previous=previous,
            lines=_LOG_LINES,
        )
        # The kubelet's own words, with status 200, for a log that is gone.
        if text and not text.startswith("unable to retrieve container logs"):
            return [f"log: {line}" for line in text.splitlines()]
    return []
