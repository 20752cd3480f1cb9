"""What keeps a workload from being ready, by what Kubernetes says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.api import container_statuses
from pytest_kindcov.service.image import full_name, last_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.cluster.api import Object

# Seconds for which a fault is tolerated that passes when other objects come up, or pods leave.
_SOON = 15.0
_LATER = 30.0
# A probe that cannot succeed may be one that was changed a moment ago.
_AT_ONCE = 2.0
# A service that waits for its database by dying was seen to need two restarts; the third comes
# after 30 s of back-off.
RESTARTS = 3


@dataclass(frozen=True)
class Fault:
    """Something that keeps a pod or a workload from being ready.

    Args:
        slug: its name in `docs/messages.md`.
        where: such as `pod web-1, container web`.
        reason: Kubernetes' word for it.
        message: Kubernetes' explanation; may be empty.
        remedy: what the user can do.
        patience: seconds after which it is final; None: it may pass by itself.
        container: its name, empty if it is not a container's.

    """

    slug: str
    where: str
    reason: str
    message: str
    remedy: str
    patience: float | None = None
    container: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason} {self.message}".rstrip()


_UNREADY_NODE = re.compile(r"node\.kubernetes\.io/(not-ready|unreachable|network-unavailable)")
_UNSCHEDULABLE = (
    (r"Insufficient \S+", "its requests are more than any node has left: lower them"),
    (
        "didn't match Pod's node affinity/selector",
        "no node has the labels of its nodeSelector or affinity: `nodes: [{labels: ...}]` in a"
        " kind config gives them, or leave it out",
    ),
    ("untolerated taint", "give it a toleration, or remove the taint from the node"),
    ("persistentvolumeclaim .* not found", "add the PersistentVolumeClaim to the manifests"),
    ("free ports", "another pod on the node has its hostPort: leave it out"),
)
_NEVER_MATCHES = "look at the node's labels, taints and resources"


def of_pod(pod: Object, events: Sequence[Object], images: Sequence[str] = ()) -> list[Fault]:
    """The faults of a pod.

    Args:
        pod: as the API server shows it.
        events: of its namespace.
        images: names of the images on the nodes.

    """
    metadata = pod["metadata"]
    own = [event for event in events if about(event, "Pod", metadata)]
    where = f"pod {metadata['name']}"
    found = [
        _unschedulable(where, condition.get("message") or "")
        for condition in (pod.get("status") or {}).get("conditions") or []
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    spec = pod.get("spec") or {}
    specs = {
        container["name"]: container
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    }
    for status in container_statuses(pod):
        ended = ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
        if status.get("ready") or (ended == 0 and not status.get("restartCount")):
            continue
        name = status["name"]
        context = _Context(
            f"{where}, container {name}", status, specs.get(name) or {}, own, tuple(images)
        )
        found.append(_of_container(context))
    return found


@dataclass(frozen=True)
class _Context:
    """A container that is not ready, and what is known of it."""

    where: str
    status: Object
    spec: Object
    events: list[Object]
    images: tuple[str, ...]

    def fault(
        self, slug: str, reason: str, message: str, remedy: str, patience: float | None = None
    ) -> Fault:
        return Fault(slug, self.where, reason, message, remedy, patience, self.status["name"])


def _of_container(context: _Context) -> Fault:
    reason, message = why(context.status)
    if reason in ("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
        return _image(context, reason, message)
    if reason == "StartError":
        if "exec format error" in message:
            remedy = "the image is for another processor: build or pull it for this one"
            return context.fault("wrong-architecture", reason, message, remedy, 0)
        remedy = "its image may hold one static program: `command:` must name it, not a shell"
        return context.fault("command-not-startable", reason, message, remedy, 0)
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        return _config(context, reason, message)
    ended = "terminated" in (context.status.get("state") or {})
    if reason == "CrashLoopBackOff" or ended or context.status.get("restartCount", 0) >= RESTARTS:
        return _crash(context, reason, message)
    if reason == "not ready":
        return _probe(context)
    return _pending(context, reason, message)


def why(container: Object) -> tuple[str, str]:
    """Reason and message for which a container does not run, from its status."""
    state = container.get("state") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    for ended in (state.get("terminated") or {}, last):
        if ended.get("reason") in ("StartError", "ContainerCannotRun"):
            return "StartError", ended.get("message") or ""
    waiting = state.get("waiting") or {}
    if waiting:
        message = waiting.get("message") or ""
        if waiting.get("reason") == "CrashLoopBackOff" and last:
            message = f"it ended with exit code {last.get('exitCode')} ({last.get('reason')})"
        return waiting.get("reason") or "waiting", message
    terminated = state.get("terminated") or {}
    if terminated:
        return terminated.get("reason") or "ended", f"exit code {terminated.get('exitCode')}"
    if not container.get("ready"):
        return "not ready", "it runs, but its readiness probe does not succeed"
    return "", ""


def _image(context: _Context, reason: str, message: str) -> Fault:
    image = str(context.spec.get("image") or context.status.get("image") or "")
    near = ", ".join(_near(image, context.images))
    also = f"; the nodes have {near}" if near else ""
    if reason == "InvalidImageName":
        remedy = "mend the image's name in the manifest"
        return context.fault("image-name-invalid", reason, message, remedy, 0)
    if reason == "ErrImageNeverPull":
        remedy = "load it, name the image that is there, or let it be pulled" + also
        return context.fault("image-never-pulled", reason, message, remedy, 0)
    if context.spec.get("imagePullPolicy") == "Always" and full_name(image) in map(
        full_name, context.images
    ):
        remedy = (
            "`imagePullPolicy: IfNotPresent`: the image is on the node, but with Always, the"
            " default for :latest, the kubelet asks the registry"
        )
        return context.fault("image-pull-policy", reason, message, remedy, _SOON)
    if re.search(r"not found|manifest unknown|does not exist|access denied", message):
        remedy = "is the name right? Images that no registry has must be loaded into the nodes"
    elif "no match for platform" in message:
        remedy = "the registry has it for other processors only"
    else:
        remedy = "images of other services must be loaded into the nodes, or be pulled"
    return context.fault("image-pull-failed", reason, message, remedy + also, _SOON)


def _config(context: _Context, reason: str, message: str) -> Fault:
    if "runAsNonRoot" in message:
        remedy = "`USER` in the Dockerfile or `runAsUser:` in the manifest, with a number above 0"
        return context.fault("runs-as-root", reason, message, remedy, 0)
    if re.search(r"(?i)(secret|configmap) \"[^\"]*\" not found|couldn't find key", message):
        remedy = "add the Secret, the ConfigMap or its key to the manifests"
        return context.fault("reference-missing", reason, message, remedy, _SOON)
    return context.fault("container-not-created", reason, message, "mend the manifest", _SOON)


def _crash(context: _Context, reason: str, message: str) -> Fault:
    """A container that ends again and again; final when it did so a few times."""
    often = (context.status.get("restartCount") or 0) >= RESTARTS
    patience = 0.0 if often and reason == "CrashLoopBackOff" else None
    last = (context.status.get("lastState") or {}).get("terminated") or {}
    killed = [text for text in _unhealthy(context.events) if re.match("Liveness|Startup", text)]
    if last.get("reason") == "OOMKilled":
        remedy = "raise its limits.memory"
        return context.fault("container-out-of-memory", reason, message, remedy, patience)
    if killed:
        remedy = "the kubelet ends it for that: mend the probe, or give it time (a startupProbe)"
        return context.fault("probe-kills", reason, killed[-1], remedy, patience)
    if last.get("exitCode") == 0:
        remedy = "a workload's program must go on running; one that is to end is a Job's"
        return context.fault("program-ends", reason, message, remedy, patience)
    remedy = "the log is the service's own; does it need configuration (env=), or a server?"
    return context.fault("crash-loop", reason, message, remedy, patience)


def _probe(context: _Context) -> Fault:
    told = _unhealthy(context.events)
    message = told[-1] if told else "it runs, but its readiness probe does not succeed"
    if re.search(r"exec: .*(executable file not found|no such file or directory)", message):
        remedy = "the image does not have the probe's program: use httpGet, tcpSocket or grpc"
        return context.fault("probe-impossible", "not ready", message, remedy, _AT_ONCE)
    remedy = "is the probe's path and port what the program serves? Does it wait for a server?"
    return context.fault("probe-failing", "not ready", message, remedy)


def _pending(context: _Context, reason: str, message: str) -> Fault:
    # What came later than a failed attempt says that it succeeded.
    last = by_time(context.events)[-1:]
    for event in last:
        told = event.get("message") or ""
        if event.get("reason") in ("FailedMount", "FailedAttachVolume"):
            remedy = "add what the volume refers to, or mend the volume"
            return context.fault("volume-not-mounted", reason, told, remedy, _LATER)
        if event.get("reason") == "FailedCreatePodSandBox":
            remedy = "is the pod network up? `kubectl -n kube-system get pods` shows it"
            return context.fault("sandbox-failed", reason, told, remedy)
    return context.fault("container-waiting", reason, message, "it may only need more time")


def _unschedulable(where: str, message: str) -> Fault:
    reason = "cannot be placed on a node:"
    if _UNREADY_NODE.search(message):
        remedy = "the node is not ready: is its network up?"
        return Fault("pod-unschedulable", where, reason, message, remedy)
    for pattern, remedy in _UNSCHEDULABLE:
        if re.search(pattern, message):
            return Fault("pod-unschedulable", where, reason, message, remedy, _LATER)
    return Fault("pod-unschedulable", where, reason, message, _NEVER_MATCHES)


def _unhealthy(events: Iterable[Object]) -> list[str]:
    """What probes met, the latest last."""
    return [
        re.sub(r"^\(combined from similar events\): ", "", event.get("message") or "")
        for event in by_time(events)
        if event.get("reason") == "Unhealthy"
    ]


def by_time(events: Iterable[Object]) -> list[Object]:
    """Events in the order in which they came."""
    return sorted(
        events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime"))
    )


def about(event: Object, kind: str, metadata: Object) -> bool:
    """Whether an event is about an object, and not about an earlier one of that name."""
    involved = event.get("involvedObject") or {}
    return (
        involved.get("kind") == kind
        and involved.get("name") == metadata["name"]
        and involved.get("uid") == metadata.get("uid")
    )


def _near(image: str, images: Sequence[str]) -> list[str]:
    """Images with the last part of the name, whatever the registry and the tag."""
    return sorted(
        name for name in images if last_name(name) == last_name(image) and "@" not in name
    )[:3]
