"""Manifests onto the cluster, and the wait until every workload is ready or never will be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import UnknownKind, container_statuses, title
from pytest_kindcov.errors import DeployError
from pytest_kindcov.service.image import full_name
from pytest_kindcov.service.manifests import templates

if TYPE_CHECKING:
    import threading

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.service.manifests import Manifests
    from pytest_kindcov.service.spec import ServiceSpec

# What others refer to comes first; the rest keeps its order. A webhook that is in force before its
# own server runs would refuse the server's pods: it comes last.
_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
)
SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces of the cluster itself."""
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")

# Reasons for which a container waits that do not go away by waiting.
_FINAL = frozenset({"ErrImageNeverPull", "InvalidImageName", "StartError"})
# These may pass while other objects come up; seconds for which they are tolerated.
_PASSING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "CreateContainerError"}
)
_TOLERATED = 15.0
# A service that waits for its database by dying was seen to need two restarts; the third comes
# after 30 s of back-off.
_RESTARTS = 3
_ACCOUNT = 30.0
_DEFINITION = 30.0


@dataclass(frozen=True)
class Workload:
    """A workload whose readiness is waited for."""

    kind: str
    name: str
    namespace: str
    api_version: str
    labels: dict[str, str]

    @property
    def title(self) -> str:
        """As one names it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Deployed:
    """A service, or a worker's instance of it, that was deployed: what the harvest knows of it."""

    title: str
    image: str
    """Full name of the image."""
    worker: str
    """The xdist worker whose own it is; empty when it is shared."""
    workloads: tuple[tuple[str, str, str], ...]
    """Namespace, kind and name of each workload that runs the image."""
    containers: frozenset[str]
    """Names of the containers that run the image."""
    namespaces: frozenset[str]
    """All namespaces in which it has objects; a worker's are its own alone."""

    @classmethod
    def of(cls, manifests: Manifests, spec: ServiceSpec) -> Deployed:
        """What manifests, as they were applied, say of a service."""
        default = spec.namespace or "default"
        found = [
            ((obj["metadata"].get("namespace") or default, obj["kind"], obj["metadata"]["name"]), c)
            for obj, _, c in manifests.containers()
        ]
        return cls(
            title=spec.title,
            image=full_name(manifests.image),
            worker=spec.worker,
            workloads=tuple(dict.fromkeys(workload for workload, _ in found)),
            containers=frozenset(str(container["name"]) for _, container in found),
            namespaces=frozenset(
                str(obj["metadata"].get("namespace") or default) for obj in manifests.objects
            )
            - SYSTEM,
        )


def apply(
    api: Api, objects: list[Object], spec: ServiceSpec, *, cancel: threading.Event | None = None
) -> list[Workload]:
    """Apply objects in an order that works, and return the workloads among them.

    Args:
        api: the cluster.
        objects: whole objects; those without a namespace get the spec's, else `default`.
        spec: the service.
        cancel: when set, waiting is given up.

    """
    namespace = spec.namespace or "default"
    ordered = sorted(objects, key=_rank)
    _make_namespaces(api, ordered, namespace)
    for obj in ordered:
        _apply_one(api, obj, namespace, cancel)
    return [
        Workload(
            kind=obj["kind"],
            name=obj["metadata"]["name"],
            namespace=obj["metadata"].get("namespace") or namespace,
            api_version=obj["apiVersion"],
            labels=(template.get("metadata") or {}).get("labels") or {},
        )
        for obj, template in templates(objects)
    ]


def apply_shared(api: Api, objects: list[Object], *, cancel: threading.Event | None = None) -> None:
    """Apply cluster-wide objects."""
    for obj in sorted(objects, key=_rank):
        _apply_one(api, obj, "default", cancel)


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
        DeployError: not within `timeout` seconds, or before that when a pod can never start. Names
            the container, its reason and its last log lines.

    """
    since: dict[str, float] = {}
    waiting = list(workloads)

    def ready() -> bool:
        waiting[:] = [workload for workload in waiting if not _rolled_out(api, workload)]
        for workload in waiting:
            for pod in _pods(api, workload):
                _give_up(api, service, pod, since)
        return not waiting

    def state() -> str:
        lines = []
        for workload in waiting:
            pods = _pods(api, workload)
            lines.append(f"{workload.title} is not ready" + ("" if pods else " and has no pods"))
            lines += [line for pod in pods for line in describe(api, pod)]
            lines += _events(api, workload) if not pods else []
        return "\n".join(lines)

    wait_until(
        ready,
        what=f"service {service}: rollout",
        timeout=timeout,
        interval=0.2,
        state=state,
        remedy="mend what the lines above say; go_service(..., timeout=...) gives it longer",
        cancel=cancel,
        error=DeployError,
    )


def describe(api: Api, pod: Object) -> list[str]:
    """What keeps a pod from being ready: conditions, waiting containers, last log lines."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    lines = [
        f"pod {metadata['name']}: {condition.get('message')}"
        for condition in status.get("conditions") or []
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    for container in container_statuses(pod):
        if container.get("ready"):
            continue
        reason, message = _why(container)
        lines.append(
            f"pod {metadata['name']}, container {container['name']}: {reason} {message}".strip()
        )
        lines += _log(api, pod, container)
    return lines


def select(api: Api, namespace: str, labels: dict[str, str]) -> list[Object]:
    """The pods of a namespace that bear all of these labels."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return api.list("v1", "Pod", namespace, selector)


def _rank(obj: Object) -> int:
    kind = obj["kind"]
    if kind in _FIRST:
        return _FIRST.index(kind)
    return len(_FIRST) + (1 if kind in _LAST else 0)


def _make_namespaces(api: Api, objects: list[Object], default: str) -> None:
    """Make the namespaces that the objects live in and that no manifest makes."""
    own = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"}
    wanted = {obj["metadata"].get("namespace") for obj in objects} | {default}
    for name in sorted(filter(None, wanted - own - {"default", "kube-system"})):
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _apply_one(api: Api, obj: Object, namespace: str, cancel: threading.Event | None) -> None:
    if obj["kind"] == "Pod":
        # A pod without its service account is refused for good; controllers try again.
        where = obj["metadata"].get("namespace") or namespace
        account = obj["spec"].get("serviceAccountName") or "default"
        wait_until(
            lambda: api.get("v1", "ServiceAccount", account, where),
            what=f"ServiceAccount {where}/{account}",
            timeout=_ACCOUNT,
            cancel=cancel,
            error=DeployError,
        )

    deadline = time.monotonic() + _DEFINITION

    def applied() -> bool:
        try:
            api.apply(obj, namespace)
        except UnknownKind:
            # A definition that was applied a moment ago is served a little later.
            if obj["apiVersion"].partition("/")[0] not in _defined(api) or (
                time.monotonic() > deadline
            ):
                raise
            return False
        return True

    wait_until(applied, what=f"{title(obj)} applied", timeout=2 * _DEFINITION, cancel=cancel)


def _defined(api: Api) -> set[str]:
    found = api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    return {definition["spec"]["group"] for definition in found}


def _rolled_out(api: Api, workload: Workload) -> bool:
    if workload.kind in ("Job", "CronJob"):
        return True
    obj = api.get(workload.api_version, workload.kind, workload.name, workload.namespace)
    if obj is None:
        return False
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if workload.kind == "Pod":
        conditions = status.get("conditions") or []
        return status.get("phase") == "Succeeded" or any(
            item.get("type") == "Ready" and item.get("status") == "True" for item in conditions
        )
    if (status.get("observedGeneration") or 0) < (obj["metadata"].get("generation") or 0):
        return False
    if workload.kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled") or 0
        return bool(
            wanted
            and status.get("updatedNumberScheduled", 0) >= wanted
            and status.get("numberAvailable", 0) >= wanted
        )
    wanted = spec.get("replicas", 1)
    if workload.kind == "ReplicaSet":
        return bool(status.get("availableReplicas", 0) >= wanted)
    return bool(
        (status.get("updatedReplicas") or 0) >= wanted
        and (status.get("replicas") or 0) <= wanted
        and (status.get("availableReplicas") or 0) >= wanted
    )


def _pods(api: Api, workload: Workload) -> list[Object]:
    if workload.kind == "Pod":
        pod = api.get("v1", "Pod", workload.name, workload.namespace)
        return [pod] if pod else []
    return select(api, workload.namespace, workload.labels)


def _give_up(api: Api, service: str, pod: Object, since: dict[str, float]) -> None:
    """Raise if a container of the pod will never run."""
    for container in container_statuses(pod):
        reason, message = _why(container)
        key = f"{pod['metadata']['uid']}/{container['name']}"
        if reason in _PASSING:
            final = time.monotonic() - since.setdefault(key, time.monotonic()) > _TOLERATED
        else:
            since.pop(key, None)
            final = reason in _FINAL or (
                reason == "CrashLoopBackOff" and container.get("restartCount", 0) >= _RESTARTS
            )
        if final:
            where = f"pod {pod['metadata']['name']}, container {container['name']}"
            raise DeployError(
                f"service {service}: {where} cannot run: {reason}",
                cause="\n".join(filter(None, [message, *_log(api, pod, container)])),
                remedy=_remedy(reason),
            )


def _why(container: Object) -> tuple[str, str]:
    """Reason and message for which a container does not run, from its status."""
    state = container.get("state") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    for ended in (state.get("terminated") or {}, last):
        if ended.get("reason") in ("StartError", "ContainerCannotRun"):
            return "StartError", ended.get("message", "")
    waiting = state.get("waiting") or {}
    if waiting:
        message = waiting.get("message", "")
        if waiting.get("reason") == "CrashLoopBackOff" and last:
            message = f"it ended with exit code {last.get('exitCode')} ({last.get('reason')})"
        return waiting.get("reason", "waiting"), message
    terminated = state.get("terminated") or {}
    if terminated:
        return terminated.get("reason", "ended"), f"exit code {terminated.get('exitCode')}"
    if not container.get("ready"):
        return "not ready", "it runs, but its readiness probe does not succeed"
    return "", ""


def _log(api: Api, pod: Object, container: Object) -> list[str]:
    """The last lines of the run that failed: the one before when the container waits or is new."""
    if not container.get("containerID") and not container.get("restartCount"):
        return []
    metadata = pod["metadata"]
    failed_before = bool(container.get("restartCount")) and "terminated" not in container["state"]
    for previous in (failed_before, not failed_before):
        text = api.logs(
            metadata["namespace"], metadata["name"], container["name"], previous=previous, lines=8
        )
        # The kubelet's own words, with status 200, for a log that is gone.
        if text and not text.startswith("unable to retrieve container logs"):
            return [f"log: {line}" for line in text.splitlines()]
    return []


def _events(api: Api, workload: Workload) -> list[str]:
    """Why a workload has no pods: what its controller said, such as an admission refusal."""
    events = api.list("v1", "Event", workload.namespace)
    return [
        f"event: {event.get('message')}"
        for event in events
        if event.get("type") == "Warning"
        and event["involvedObject"].get("name", "").startswith(workload.name)
    ][-3:]


def _remedy(reason: str) -> str:
    if reason == "CrashLoopBackOff":
        return "the log above is the service's own; does it need configuration (env=), or a server?"
    if reason == "StartError":
        return "its image holds one static program: `command:` must name it, not a shell"
    if "Image" in reason:
        return "images of other services must be on the node (load them) or be pulled"
    return "mend the manifest"
