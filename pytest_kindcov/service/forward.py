"""A stable address for a service: a node port, which survives pods and does not delay closes.

Through the API server's port-forward a pod sees a client's close 1.02 s late (measured); a node
port is the pod's own connection.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import FIELD_MANAGER
from pytest_kindcov.errors import ClusterError, CommandError, DeployError
from pytest_kindcov.service.deploy import OWN_LABEL
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.manifests import all_containers
from pytest_kindcov.service.rollout import describe, select

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
_PROTOCOLS = ("TCP", "UDP")  # SCTP needs a kernel module, and nobody's Go service listens to it


@dataclass(frozen=True)
class Entry:
    """Where a service's address leads to."""

    namespace: str
    selector: dict[str, str]
    """Labels of its pods."""
    targets: dict[str, Any]
    """By protocol, TCP first, the port of the pods: a number or a name."""

    @property
    def target(self) -> Any:
        """The port, of the first protocol."""
        return next(iter(self.targets.values()))


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
    entry = port_target(manifests, spec)
    if entry is None and spec.port:
        raise DeployError(
            f"service {spec.title}: nothing says which pods its port {spec.port} is of",
            cause="its manifests have no pod template with labels that runs its image, and no"
            " Service with this port",
            remedy="add the template's labels, or a Service, to the manifests; or leave out port=",
            slug="port-without-pods",
        )
    if entry is None:
        return 0
    # Ports of one number and several protocols get one node port.
    wanted: list[Object] = [
        {"name": protocol.lower(), "port": 80, "targetPort": target, "protocol": protocol}
        for protocol, target in entry.targets.items()
    ]
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": entry_name(spec),
            "namespace": entry.namespace,
            "labels": {OWN_LABEL: FIELD_MANAGER},
        },
        "spec": {"type": "NodePort", "selector": entry.selector, "ports": wanted},
    }
    for port in ports or (0,):
        for each in wanted if port else []:
            each["nodePort"] = port
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
    entry: Node,
    cancel: threading.Event | None = None,
) -> GoService:
    """Wait until the service's port answers, and return the handle.

    Args:
        api: the cluster.
        nodes: all its nodes that can be asked.
        manifests: the service's.
        spec: the service.
        address: of the entry, and the node port; 0 for none.
        entry: the node by which the service is reached.
        cancel: when set, waiting is given up.

    Raises:
        DeployError: nobody listens on the port; names the ports on which somebody does.

    """
    namespace = _namespace(manifests, spec)
    host, port = address
    target_of = port_target(manifests, spec)
    if not port or target_of is None:
        return GoService(spec.title, namespace, "", 0, worker=spec.worker)
    protocols = tuple(target_of.targets)
    if not entry.engine.reaches_nodes:
        host, port = "127.0.0.1", entry.engine.published(entry.name, port)
        protocols = ("TCP",)  # kind publishes no other
        if "TCP" not in target_of.targets:
            raise DeployError(
                f"service {spec.title}: its UDP port {spec.port} cannot be reached from here",
                cause="the nodes' addresses cannot, and kind publishes their ports for TCP only",
                remedy="run the tests where containers' addresses are reached, and say"
                " --kind-coverage-address=node",
                slug="udp-not-published",
            )
    service = GoService(spec.title, namespace, host, port, worker=spec.worker, protocols=protocols)
    if "TCP" not in protocols:
        return service  # nothing answers a UDP packet but the service itself
    selector, target = target_of.selector, target_of.target
    wanted = _number(manifests, target)
    problem = ""
    begin = time.monotonic()

    def opened() -> bool:
        nonlocal problem
        try:
            knock(host, port)
        except OSError as error:
            problem = str(error)
        else:
            return True
        if nodes and time.monotonic() - begin > _OPEN:
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
    return service


def knock(host: str, port: int) -> None:
    """Connect to a service and leave.

    Raises:
        OSError: nobody answered.

    """
    with socket.create_connection((host, port), _CONNECT) as connection:
        if host == "127.0.0.1":
            _refuse_closed(connection)


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
        return str(obj["metadata"].get("namespace") or spec.home)
    return spec.home


def port_target(manifests: Manifests, spec: ServiceSpec) -> Entry | None:
    """The pods and ports that the service's one port leads to; None when none is said."""
    candidates: list[tuple[int, Entry]] = []
    fallback: Entry | None = None
    workloads = {id(obj): (obj, template) for obj, template, _ in manifests.containers()}
    for obj, template in workloads.values():
        if obj["kind"] in ("Job", "CronJob"):
            continue
        labels = (template.get("metadata") or {}).get("labels") or {}
        namespace = str(obj["metadata"].get("namespace") or spec.home)
        for service in _services(manifests.objects, namespace, labels, spec):
            candidates += _entries(service, namespace)
        if labels and fallback is None and spec.port:
            protocols = _declared(template, spec.port)
            fallback = Entry(namespace, labels, dict.fromkeys(protocols, spec.port))
    if spec.port is None:
        # One that serves metrics by UDP besides still has one port to connect to.
        tcp = [entry for _, entry in candidates if "TCP" in entry.targets]
        only = tcp or [entry for _, entry in candidates]
        return only[0] if len(only) == 1 else None
    named = [entry for number, entry in candidates if number == spec.port]
    if named:
        return named[0]
    return fallback or _by_service(manifests.objects, spec)


def _entries(service: Object, namespace: str) -> list[tuple[int, Entry]]:
    """The numbers of a Service's ports, each with where it leads."""
    by_number: dict[int, dict[str, Any]] = {}
    for port in service["spec"].get("ports") or []:
        target = port.get("targetPort") or port["port"]
        by_number.setdefault(port["port"], {})[port.get("protocol") or "TCP"] = target
    selector = service["spec"]["selector"]
    return [
        (number, Entry(namespace, selector, {p: targets[p] for p in _PROTOCOLS if p in targets}))
        for number, targets in by_number.items()
        if targets.keys() & set(_PROTOCOLS)
    ]


def _declared(template: Object, number: int) -> list[str]:
    """The protocols of a port that no Service names, as containers declare it; else TCP."""
    declared = {
        port.get("protocol") or "TCP"
        for container in all_containers(template)
        for port in container.get("ports") or []
        if port.get("containerPort") == number
    }
    return [protocol for protocol in _PROTOCOLS if protocol in declared] or ["TCP"]


def _by_service(objects: list[Object], spec: ServiceSpec) -> Entry | None:
    """The Service that has the port: an operator makes the pods, no manifest does."""
    for obj in objects:
        if obj["kind"] == "Service" and (obj.get("spec") or {}).get("selector"):
            namespace = str(obj["metadata"].get("namespace") or spec.home)
            for number, entry in _entries(obj, namespace):
                if number == spec.port:
                    return entry
    return None


def _services(
    objects: list[Object], namespace: str, labels: dict[str, str], spec: ServiceSpec
) -> list[Object]:
    return [
        obj
        for obj in objects
        if obj["kind"] == "Service"
        and (obj["metadata"].get("namespace") or spec.home) == namespace
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
