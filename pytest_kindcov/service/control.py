"""What tests do to a running service: restart, scale, read logs, run commands, wait."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from pytest_kindcov._text import clean
from pytest_kindcov._wait import wait_until
from pytest_kindcov.errors import ClusterError, DeployError
from pytest_kindcov.service import forward, rollout
from pytest_kindcov.service.found import API_VERSIONS, SCALED, running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.execute import Executed
    from pytest_kindcov.service.goservice import GoService

T = TypeVar("T")

_INTERVAL = 0.1
_ENDED = ("Succeeded", "Failed")  # phases of pods that are done


def pods(api: Api, service: GoService) -> list[Object]:
    """The pods that have a container of the service's image, the oldest first."""
    namespaces = dict.fromkeys([service.namespace, *(place for place, _, _ in service.workloads)])
    found = [
        pod
        for namespace in namespaces
        for pod in api.list("v1", "Pod", namespace)
        if running(pod, service.image)
    ]
    return sorted(found, key=lambda pod: (_created(pod), pod["metadata"]["name"]))


def restart(api: Api, service: GoService, timeout: float) -> None:
    """End all pods, and wait until as many new ones are ready."""
    old = [pod for pod in pods(api, service) if not _done(pod)]
    for pod in old:
        if not _controller(pod):
            raise DeployError(
                f"service {service.name}: pod {pod['metadata']['name']} cannot be restarted",
                cause="no controller would make it anew",
                remedy="let it be a Deployment or a StatefulSet",
                slug="restart-impossible",
            )
    for pod in old:
        metadata = pod["metadata"]
        api.delete("v1", "Pod", metadata["name"], metadata["namespace"])
    uids = {pod["metadata"]["uid"] for pod in old}
    _wait_for(
        api,
        service,
        f"{len(old)} new pods",
        timeout,
        lambda now: (
            not any(pod["metadata"]["uid"] in uids for pod in now)
            and sum(map(_ready, now)) >= len(old)
        ),
    )
    if old:
        _answers(api, service, timeout)


def scale(api: Api, service: GoService, replicas: int, workload: str, timeout: float) -> None:
    """Set the replicas of a workload, and wait until there are just so many."""
    namespace, kind, name = _scaled(service, workload)
    version = API_VERSIONS[kind]
    changed = api.patch(version, kind, name, namespace, {"spec": {"replicas": replicas}})
    labels = changed["spec"]["selector"].get("matchLabels") or {}
    _wait_for(
        api,
        service,
        f"{replicas} pods of {kind} {namespace}/{name}",
        timeout,
        lambda now: len(now) == replicas and all(map(_ready, now)),
        look=lambda: rollout.select(api, namespace, labels),
    )
    _answers(api, service, timeout)


def logs(api: Api, service: GoService, tail: int | None, container: str, previous: bool) -> str:
    """What containers logged."""
    sources = [
        (pod["metadata"]["namespace"], pod["metadata"]["name"], name)
        for pod in pods(api, service)
        for name in ([container] if container else running(pod, service.image))
    ]
    texts = [api.logs(*source, previous=previous, lines=tail) for source in sources]
    if len(texts) == 1:
        return texts[0]
    return "".join(
        f"[{pod}/{name}] {line}\n"
        for (_, pod, name), text in zip(sources, texts, strict=True)
        for line in text.splitlines()
    )


def execute(
    api: Api,
    service: GoService,
    command: Sequence[str],
    container: str,
    timeout: float,
    *,
    check: bool,
) -> Executed:
    """Run a command in the oldest pod that is ready."""
    what = f"service {service.name}: {' '.join(command)}"
    found = pods(api, service)
    pod = next(filter(_ready, found), None)
    if pod is None:
        raise DeployError(
            f"{what}: no pod is ready",
            cause=_state(api, found),
            remedy="wait for it, or scale it up",
            slug="no-pod-ready",
        )
    metadata = pod["metadata"]
    main = [each["name"] for each in pod["spec"]["containers"]]
    names = [name for name in running(pod, service.image) if name in main] or main
    try:
        done = api.execute(
            metadata["namespace"], metadata["name"], container or names[0], command, timeout
        )
    except ClusterError as error:
        raise DeployError(what, cause=error.cause, remedy=error.remedy, slug=error.slug) from error
    if check and done.code:
        raise DeployError(
            f"{what}: exit code {done.code}",
            cause=clean(done.stderr or done.stdout),
            remedy="check=False takes any exit code",
            slug="exec-failed",
        )
    return done


def wait(
    api: Api,
    service: GoService,
    condition: Callable[[], T | None],
    *,
    timeout: float,
    interval: float,
    what: str,
) -> T:
    """Wait for a condition of the user's."""
    last = "it was not asked"

    def ready() -> T | None:
        nonlocal last
        try:
            value = condition()
        except Exception as error:  # the user's own: not yet
            last = f"it raised {type(error).__name__}: {error}"
            return None
        last = f"it gave {value!r}"
        return value

    return wait_until(
        ready,
        what=f"service {service.name}: {what or 'the condition'}",
        timeout=timeout,
        interval=interval,
        state=lambda: clean("\n".join([f"at last {last}", _state(api, pods(api, service))])),
        remedy="wait(..., timeout=...) gives it longer",
        slug="condition-not-met",
        error=DeployError,
    )


def _wait_for(
    api: Api,
    service: GoService,
    what: str,
    timeout: float,
    met: Callable[[list[Object]], bool],
    *,
    look: Callable[[], list[Object]] | None = None,
) -> None:
    """Wait until the service's pods are as they should be."""
    now: list[Object] = []

    def there() -> bool:
        now[:] = look() if look else [pod for pod in pods(api, service) if not _done(pod)]
        return met(now)

    wait_until(
        there,
        what=f"service {service.name}: {what}",
        timeout=timeout,
        interval=_INTERVAL,
        state=lambda: _state(api, now),
        remedy="timeout=... gives it longer",
        slug="pods-not-as-asked",
        error=DeployError,
    )


def _answers(api: Api, service: GoService, timeout: float) -> None:
    """Wait until all Services lead to pods that live, and the node's port does.

    The plugin's own Service is one of several: other programs know another.
    """
    wait_until(
        lambda: not _stray(api, service),
        what=f"service {service.name}: Services that lead to its pods",
        timeout=timeout,
        interval=_INTERVAL,
        state=lambda: "\n".join(_stray(api, service)),
        remedy="does the cluster's controller manager run?",
        slug="pods-not-as-asked",
        error=DeployError,
    )
    if (
        not service.host
        or "TCP" not in service.protocols
        or not any(map(_ready, pods(api, service)))
    ):
        return
    problem = ""

    def opened() -> bool:
        nonlocal problem
        try:
            forward.knock(service.host, service.port)
        except OSError as error:
            problem = str(error)
            return False
        return True

    wait_until(
        opened,
        what=f"service {service.name}: connection to its port",
        timeout=timeout,
        interval=0.05,
        state=lambda: problem,
        remedy="does the service listen as soon as it says that it is ready?",
        slug="service-not-reachable",
        error=DeployError,
    )


def _stray(api: Api, service: GoService) -> list[str]:
    """Services that lead to pods that are gone, or not yet to each that is ready."""
    ready = [pod for pod in pods(api, service) if _ready(pod)]
    found = []
    for namespace in sorted({service.namespace, *(place for place, _, _ in service.workloads)}):
        leads: dict[str, set[str]] = {}
        for piece in api.list("discovery.k8s.io/v1", "EndpointSlice", namespace):
            name = (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
            leads.setdefault(name, set()).update(
                str((point.get("targetRef") or {}).get("uid"))
                for point in piece.get("endpoints") or []
                if (point.get("conditions") or {}).get("ready")
            )
        living = {pod["metadata"]["uid"] for pod in api.list("v1", "Pod", namespace)}
        for each in api.list("v1", "Service", namespace):
            selector = (each.get("spec") or {}).get("selector")
            if not selector:
                continue
            own = {
                pod["metadata"]["uid"]
                for pod in ready
                if pod["metadata"]["namespace"] == namespace
                and selector.items() <= (pod["metadata"].get("labels") or {}).items()
            }
            to = leads.get(each["metadata"]["name"], set())
            if own - to or to - living:
                found.append(f"Service {namespace}/{each['metadata']['name']} is behind")
    return found


def _scaled(service: GoService, workload: str) -> tuple[str, str, str]:
    """The one workload that can be scaled."""
    able = [each for each in service.workloads if each[1] in SCALED]
    named = [each for each in able if each[2] == workload] if workload else able
    if len(named) == 1:
        return named[0]
    told = ", ".join(f"{kind} {place}/{name}" for place, kind, name in service.workloads)
    raise DeployError(
        f"service {service.name}: " + (f"no {workload} can" if workload else "which can")
        + " be scaled?",
        cause=f"it has {told or 'no workload'}; of these, a {', '.join(SCALED)} can",
        remedy="say scale(..., workload=NAME)" if able else "let it be a Deployment",
        slug="scale-impossible",
    )  # fmt: skip


def _state(api: Api, found: list[Object]) -> str:
    """What the pods do, line by line."""
    lines = []
    for pod in found:
        metadata, status = pod["metadata"], pod.get("status") or {}
        word = "ending" if metadata.get("deletionTimestamp") else status.get("phase") or "unknown"
        ready = ", ready" if _ready(pod) else ""
        lines.append(f"pod {metadata['namespace']}/{metadata['name']}: {word}{ready}")
        if not ready:
            with contextlib.suppress(ClusterError):  # it may be gone by now
                lines += rollout.describe(api, pod)
    return "\n".join(lines) or "it has no pods"


def _created(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _done(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in _ENDED or any(
        owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or []
    )


def _controller(pod: Object) -> bool:
    return any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences") or [])


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return not pod["metadata"].get("deletionTimestamp") and any(
        each.get("type") == "Ready" and each.get("status") == "True" for each in conditions
    )
