"""A stable address for a service: a node port, which survives pods and does not delay closes.

Through the API server's port-forward a pod sees a client's close 1.02 s late (measured); a node
port is the pod's own connection.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import FIELD_MANAGER
from pytest_kindcov.errors import ClusterError, CommandError, DeployError
from pytest_kindcov.service.deploy import OWN_LABEL
from pytest_kindcov.service.rollout import describe, select
from pytest_kindcov.service.spec import GoService

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.service.manifests import Manifests
    from pytest_kindcov.service.spec import ServiceSpec

# Seconds. kube-proxy follows an endpoint within 1 s, but on a busy machine it may itself come up a
# while after the service: only then is it waited for longer.
_OPEN = 10.0
_PROXY = 120.0
_CONNECT = 2.0
_CLOSED = 0.3


def expose(api: Api, manifests: Manifests, spec: ServiceSpec, ports: Sequence[int] = ()) -> int:
    """Make a NodePort Service for the service's port.

    Args:
        api: the cluster.
        manifests: the service's.
        spec: the service.
        ports: node ports to choose from, default: any.

    Returns:
        The node port; 0 when the spec names no port and the manifests do not name just one.

    Raises:
        DeployError: a port is named, but nothing says of which pods.

    """
    found = port_target(manifests, spec)
    if found is None and spec.port:
        raise DeployError(
            f"service {spec.title}: nothing says which pods its port {spec.port} is of",
            cause="its manifests have no pod template with labels that runs its image, and no"
            " Service with this port",
            remedy="add the template's labels, or a Service, to the manifests; or leave out port=",
            slug="port-without-pods",
        )
    if found is None:
        return 0
    namespace, selector, target = found
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": entry_name(spec),
            "namespace": namespace,
            "labels": {OWN_LABEL: FIELD_MANAGER},
        },
        "spec": {
            "type": "NodePort",
            "selector": selector,
            "ports": [{"name": "main", "port": 80, "targetPort": target, "protocol": "TCP"}],
        },
    }
    for port in ports or (0,):
        if port:
            obj["spec"]["ports"][0]["nodePort"] = port
        try:
            chosen: int = api.apply(obj)["spec"]["ports"][0]["nodePort"]
        except ClusterError as error:
            if "already allocated" not in error.cause:
                raise
        else:
            return chosen
    raise DeployError(
        f"service {spec.title}: no port is left",
        cause=f"all of the {len(ports)} node ports that are published on the host are in use",
        remedy="use fewer workers or services, or --kind-coverage-address=node where the nodes'"
        " addresses can be reached",
        slug="node-ports-exhausted",
    )


def entry_name(spec: ServiceSpec) -> str:
    """Name of the NodePort Service that `expose` makes."""
    return f"kindcov-{spec.title}"[:63].rstrip("-")


def connect(
    api: Api,
    nodes: list[Node],
    manifests: Manifests,
    spec: ServiceSpec,
    address: tuple[str, int],
    *,
    cancel: threading.Event | None = None,
) -> GoService:
    """Wait until the service's port answers, and return the handle.

    Args:
        api: the cluster.
        nodes: all its nodes.
        manifests: the service's.
        spec: the service.
        address: of the first node, and the node port; 0 for none.
        cancel: when set, waiting is given up.

    Raises:
        DeployError: nobody listens on the port; names the ports on which somebody does.

    """
    namespace = _namespace(manifests, spec)
    host, port = address
    if not port:
        return GoService(spec.title, namespace, "", 0, worker=spec.worker)
    node = nodes[0]
    if not node.engine.reaches_nodes:
        host, port = "127.0.0.1", node.engine.published(node.name, port)
    _, selector, target = port_target(manifests, spec) or ("", {}, spec.port)
    wanted = _number(manifests, target)
    problem = ""
    begin = time.monotonic()

    def opened() -> bool:
        nonlocal problem
        try:
            with socket.create_connection((host, port), _CONNECT) as connection:
                if not node.engine.reaches_nodes:
                    _refuse_closed(connection)
        except OSError as error:
            problem = str(error)
        else:
            return True
        if time.monotonic() - begin > _OPEN:
            pods = select(api, namespace, selector)
            listening = {_title(pod): _ports(nodes, pod) for pod in pods}
            if not any(wanted in ports for ports in listening.values()):
                raise nobody(pods, listening)
        return False

    def state() -> str:
        if "timed out" in problem or "unreachable" in problem:
            return (
                f"the node's address {host} cannot be reached from here ({problem}):"
                " try --kind-coverage-address=host"
            )
        proxies = select(api, "kube-system", {"k8s-app": "kube-proxy"})
        told = [line for pod in proxies for line in _proxy_state(api, pod)]
        return "\n".join([f"{problem}, although the service listens on {wanted}", *told])

    def nobody(pods: list[Object], listening: dict[str, list[int]]) -> DeployError:
        lines = [
            f"{where} listens on " + (", ".join(map(str, ports)) or "no TCP port")
            for where, ports in listening.items()
        ]
        broken = [line for pod in pods for line in describe(api, pod)]
        if broken:
            return DeployError(
                f"service {spec.title}: it was ready, and is not any more",
                cause="\n".join(broken),
                remedy="the log above is the service's own",
                slug="service-died",
            )
        return DeployError(
            f"service {spec.title}: nobody listens on its port {target}",
            cause="\n".join(lines),
            remedy="port= must be the port of the manifest's Service or of the container, and the"
            " program must listen on all addresses (not only 127.0.0.1)",
            slug="nobody-listens",
        )

    wait_until(
        opened,
        what=f"service {spec.title}: connection to its port {target}",
        timeout=_PROXY,
        interval=0.05,
        state=state,
        remedy="is kube-proxy running? `kubectl -n kube-system get pods` shows it",
        slug="service-not-reachable",
        cancel=cancel,
        error=DeployError,
    )
    return GoService(spec.title, namespace, host, port, worker=spec.worker)


def _proxy_state(api: Api, pod: Object) -> list[str]:
    """What becomes of a kube-proxy: it opens the node ports."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    log = api.logs(metadata["namespace"], metadata["name"], "kube-proxy", lines=5)
    restarts = sum(item.get("restartCount", 0) for item in status.get("containerStatuses") or [])
    lines = [f"{metadata['name']}: {status.get('phase')}, {restarts} restarts"]
    return lines + [f"log: {line}" for line in log.splitlines()]


def _refuse_closed(connection: socket.socket) -> None:
    """A published port accepts before it knows whether anybody listens: then it closes at once."""
    connection.settimeout(_CLOSED)
    with contextlib.suppress(TimeoutError):
        if not connection.recv(1):
            raise ConnectionRefusedError("the connection was closed at once")


def _namespace(manifests: Manifests, spec: ServiceSpec) -> str:
    for obj, _, _ in manifests.containers():
        return str(obj["metadata"].get("namespace") or spec.namespace or "default")
    return spec.namespace or "default"


def port_target(manifests: Manifests, spec: ServiceSpec) -> tuple[str, dict[str, str], Any] | None:
    """Namespace, pod selector and target port of the service's one port."""
    candidates = []
    fallback = None
    workloads = {id(obj): (obj, template) for obj, template, _ in manifests.containers()}
    for obj, template in workloads.values():
        if obj["kind"] in ("Job", "CronJob"):
            continue
        labels = (template.get("metadata") or {}).get("labels") or {}
        namespace = str(obj["metadata"].get("namespace") or spec.namespace or "default")
        for service in _services(manifests.objects, namespace, labels, spec):
            selector = service["spec"]["selector"]
            candidates += [
                (namespace, selector, port.get("targetPort") or port["port"], port["port"])
                for port in service["spec"].get("ports") or []
                if port.get("protocol", "TCP") == "TCP"
            ]
        if labels and fallback is None:
            fallback = (namespace, labels, spec.port)
    named = [entry for entry in candidates if entry[3] == spec.port]
    if spec.port is None:
        named = candidates if len(candidates) == 1 else []
    if named:
        return named[0][:3]
    if spec.port and fallback is None:
        return _by_service(manifests.objects, spec)
    return fallback if spec.port else None


def _by_service(objects: list[Object], spec: ServiceSpec) -> tuple[str, dict[str, str], Any] | None:
    """The target of the Service that has the port: an operator makes the pods, no manifest does."""
    for obj in objects:
        given = obj.get("spec") or {}
        for port in given.get("ports") or [] if obj["kind"] == "Service" else []:
            if port["port"] == spec.port and given.get("selector"):
                namespace = str(obj["metadata"].get("namespace") or spec.namespace or "default")
                return namespace, given["selector"], port.get("targetPort") or port["port"]
    return None


def _services(
    objects: list[Object], namespace: str, labels: dict[str, str], spec: ServiceSpec
) -> list[Object]:
    return [
        obj
        for obj in objects
        if obj["kind"] == "Service"
        and (obj["metadata"].get("namespace") or spec.namespace or "default") == namespace
        and (obj.get("spec") or {}).get("selector")
        and obj["spec"]["selector"].items() <= labels.items()
    ]


def _number(manifests: Manifests, target: Any) -> int:
    """The number of a target port that may be a name; 0 if no container declares the name."""
    if isinstance(target, int) or str(target).isdigit():
        return int(target)
    for _, _, container in manifests.containers():
        for port in container.get("ports") or []:
            if port.get("name") == target:
                return int(port["containerPort"])
    return 0


def _title(pod: Object) -> str:
    return f"pod {pod['metadata']['name']}"


def _ports(nodes: list[Node], pod: Object) -> list[int]:
    """The TCP ports on which any container of a pod listens: they share their network."""
    script = (
        "pid=$(ctr -n k8s.io tasks ls | awk -v id=\"$1\" '$1 == id {print $2}');"
        ' [ -n "$pid" ] && cat "/proc/$pid/net/tcp" "/proc/$pid/net/tcp6"'
    )
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        container = (status.get("containerID") or "").partition("://")[2]
        for node in nodes if container else []:
            with contextlib.suppress(CommandError):
                return listening_ports(node.script(script, container).text)
    return []


def listening_ports(table: str) -> list[int]:
    """Ports in state LISTEN of the kernel's /proc/net/tcp table, sorted."""
    rows = (line.split() for line in table.splitlines())
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3:4] == ["0A"]})
