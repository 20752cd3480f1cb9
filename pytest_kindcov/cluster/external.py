"""Any cluster, reached by its kubeconfig alone: its API stands in an engine's place."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sys
import threading
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov import _proxy
from pytest_kindcov.cluster import engine as engines
from pytest_kindcov.cluster import kubeconfig, nodepods
from pytest_kindcov.cluster.api import Api
from pytest_kindcov.cluster.engine import EXTERNAL, Container, Engine
from pytest_kindcov.cluster.kind import KindCluster
from pytest_kindcov.cluster.node import Node
from pytest_kindcov.errors import ClusterError, CommandError, KindCovError, ToolNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.cluster.bridge import Connection
    from pytest_kindcov.cluster.owners import Owner
    from pytest_kindcov.cluster.tunnel import Tunnel

_KUBELET = 10250
_CONNECT = 2.0  # seconds
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, eq=False)
class External(Engine):
    """A cluster's own API in an engine's place: nodes are reached through privileged pods.

    Images are built, and looked for, in the engine of this machine, if one answers.

    Args:
        cluster: the name by which it is known to us: that of the context, and a part of its id.
        context: of the kubeconfigs.
        kubeconfigs: their paths: see `kubeconfig.places`.
        directory: private; has a kubeconfig with this context alone, and what is made from it.
        wanted: the engine of this machine that was asked for.
        sidecar: image of what reads coverage in workloads, where nodes cannot be reached; empty:
            then that is an error.
        refusal: why nodes cannot be reached, as far as that is known at once.

    """

    cluster: str = ""
    context: str = ""
    kubeconfigs: str = ""
    directory: Path = Path()
    wanted: str = "auto"
    sidecar: str = ""
    refusal: str = ""
    _tunnels: dict[int, Tunnel] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _written: list[Connection] = field(default_factory=list)

    @cached_property
    def api(self) -> Api:
        """A client of the cluster."""
        return Api(self.directory / "kubeconfig", self.directory / "kinds.json")

    def exec_args(self, node: str, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` on a node, standard input connected."""
        path = self.directory / "connection.json"
        connection = self.api.connection()
        with self._lock:
            if self._written != [connection]:  # a token is not for ever
                connection.write(path)
                self._written[:] = [connection]
        # Without -P a module of the working directory could stand in a library's place.
        bridge = [sys.executable, "-P", "-m", "pytest_kindcov.cluster.bridge", str(path)]
        where = [nodepods.NAMESPACE, nodepods.pod_name(node), nodepods.CONTAINER]
        return [*bridge, *where, *command]

    def found(self) -> list[Object]:
        """The nodes that can be used, control planes first: Linux, and ready."""
        nodes = [node for node in self.api.list("v1", "Node") if _is_usable(node)]
        return sorted(nodes, key=lambda node: (_CONTROL_PLANE not in _labels(node), _name(node)))

    def clusters(self) -> dict[str, list[Container]]:
        """The one cluster, with its nodes."""
        return {self.cluster: [Container(_name(node), running=True) for node in self.found()]}

    def address(self, node: str) -> str:
        """Address of a node within its network; empty when it tells none."""
        obj = self.api.get("v1", "Node", node, "")
        return _address(obj) if obj else ""

    def is_running(self, node: str) -> bool:
        """Whether a node is ready, as the API server knows."""
        obj = self.api.get("v1", "Node", node, "")
        return obj is not None and _is_usable(obj)

    def published_ports(self, node: str) -> list[int]:  # noqa: ARG002
        """Nothing is published."""
        return []

    def published(self, node: str, port: int) -> int:  # noqa: ARG002
        """A port of 127.0.0.1 that leads to a node port's pods, by way of the API server."""
        from pytest_kindcov.cluster.tunnel import Tunnel

        with self._lock:
            if port not in self._tunnels:
                self._tunnels[port] = Tunnel(self.api, port)
            return self._tunnels[port].port

    def copy_out(self, node: str, path: str, limit: int, timeout: float) -> bytes:  # noqa: ARG002
        """Nothing comes off a node that is not ready."""
        raise CommandError(f"node {node} is not ready: nothing can be copied off it")

    def image_names(self, reference: str) -> list[str]:
        """Tags in the engine of this machine; none where there is no engine."""
        return self.local.image_names(reference) if self.local else []

    def has_image(self, reference: str) -> bool:
        """Whether the engine of this machine has an image."""
        return self.local is not None and self.local.has_image(reference)

    def image_arch(self, reference: str) -> str:
        """Architecture of an image in the engine of this machine."""
        return self._needed.image_arch(reference)

    def image_id(self, reference: str) -> str:
        """Id of an image in the engine of this machine; empty where there is none."""
        return self.local.image_id(reference) if self.local else ""

    def save_args(self, reference: str) -> list[str]:
        """The command line that writes an image of this machine's engine to standard output."""
        return self._needed.save_args(reference)

    def build(
        self,
        dockerfile: Path,
        context: Path,
        tag: str,
        *,
        timeout: float,
        cancel: threading.Event | None = None,
    ) -> None:
        """Build an image with the engine of this machine."""
        self._needed.build(dockerfile, context, tag, timeout=timeout, cancel=cancel)

    def untag(self, reference: str) -> None:
        """Remove an image's name from the engine of this machine."""
        self._needed.untag(reference)

    @cached_property
    def local(self) -> Engine | None:
        """The engine of this machine; None where none answers."""
        with contextlib.suppress(ToolNotFound):
            return engines.detect(self.wanted)
        return None

    @property
    def _needed(self) -> Engine:
        return self.local or engines.detect(self.wanted)  # says why there is none

    def close(self) -> None:
        """Close what leads to services."""
        for tunnel in self._tunnels.values():
            tunnel.close()


def connect(
    context: str,
    directory: Path,
    *,
    kubeconfigs: str = "",
    address: str = "auto",
    wanted: str = "auto",
    sidecar: str = "",
) -> External:
    """Reach a cluster, and see that it lets us do what a run needs.

    Args:
        context: its name in the kubeconfigs.
        directory: private, for this run's own.
        kubeconfigs: their paths; default: the user's.
        address: where services are reached: at the `node`, by a port of this `host`, or `auto`.
        wanted: the engine of this machine, for images: `docker`, `podman` or `auto`.
        sidecar: image of what reads coverage in workloads, where nodes cannot be reached.

    Raises:
        ClusterError: there is no such context, the API server does not answer or does not let us,
            or the nodes cannot be used.

    """
    paths = kubeconfig.places(kubeconfigs)
    kubeconfig.extract(context, paths, directory / "kubeconfig")
    try:
        api = Api(directory / "kubeconfig", directory / "kinds.json")
    except Exception as error:  # the client's own, urllib3's: a plugin that fails, a damaged key
        raise ClusterError(
            f"the cluster of context {context} cannot be reached",
            cause=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            remedy=f"does `kubectl --context {context} version` answer?",
            slug="api-unreachable",
        ) from error
    missing = nodepods.check_rights(api, without_nodes=bool(sidecar))
    identity = api.get("v1", "Namespace", "kube-system", "") or {"metadata": {"uid": ""}}
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", context).strip("-._")[:60]
    found = External(
        EXTERNAL,
        cluster=f"{plain or 'cluster'}-{identity['metadata']['uid'][:6]}",
        context=context,
        kubeconfigs=paths,
        directory=directory,
        wanted=wanted,
        sidecar=sidecar,
        refusal=f"the user lacks rights: {missing}" if missing else "",
    )
    found.__dict__["api"] = api
    nodes = found.found()
    architectures = {node["status"]["nodeInfo"]["architecture"] for node in nodes}
    if len(architectures) != 1:
        raise ClusterError(
            f"the nodes of context {context} cannot be used",
            cause=f"they are of several architectures: {', '.join(sorted(architectures))}"
            if nodes
            else "none is ready and runs Linux",
            remedy="use a cluster whose nodes are ready, and of one architecture",
            slug="nodes-unfit",
        )
    there = _address(nodes[0])
    reaches = _answers(there) if address == "auto" else address == "node"
    if reaches:
        _proxy.bypass(*(_address(node) for node in nodes))
    for name, value in {"arch": architectures.pop(), "reaches_nodes": reaches}.items():
        object.__setattr__(found, name, value)
    return found


class ExternalCluster(KindCluster):
    """A cluster that is used by way of its API, with the interface of Kind's.

    Args:
        engine: the cluster's API.
        kubectl_path: the kubectl program; default: the one on PATH, else a node's.

    """

    def __init__(self, engine: External, kubectl_path: Path | None = None) -> None:
        super().__init__(
            engine.cluster,
            engine.directory / "kubeconfig",
            kubectl_path=kubectl_path,
            engine=engine,
        )
        self.external = engine
        self.run = uuid.uuid4().hex
        """What tells this run from others, on the cluster."""
        self.cancel: threading.Event | None = None
        """When set, waiting is given up."""

    @property
    def forwarded(self) -> Sequence[int]:
        """None: any node port will do."""
        return ()

    def take(self, containers: Sequence[Container], logs: Path | None = None) -> None:  # noqa: ARG002
        """Start a pod on each node, by which it is reached.

        Raises:
            ClusterError: another run has the cluster, or the pods are refused or do not run.

        """
        names = {container.name for container in containers}
        nodes = [node for node in self.external.found() if _name(node) in names]
        self.entry = Node(_name(nodes[0]), self.engine)
        refusal, sidecar = self.external.refusal, self.external.sidecar
        if not refusal:
            self._pods.take()
            try:
                self._pods.start(nodes)
            except nodepods.Refused as error:
                if not sidecar:
                    self._pods.close()
                    raise
                refusal = error.cause
            except BaseException:
                self._pods.close()
                raise
        self.client = self.external.api
        self.nodes = [Node(_name(node), self.engine) for node in nodes]
        if refusal:
            self.do_without_nodes(refusal)
        self.whole = True

    def do_without_nodes(self, why: str) -> bool:
        """Have coverage read in workloads instead of on nodes, if an image for that was named."""
        if self.external.sidecar:
            self.sidecar, self.refusal, self.nodes = self.external.sidecar, why, []
        return bool(self.external.sidecar)

    def reach(self, last: Owner | None) -> dict[str, str]:
        """What to note of the cluster, so that another process can give it back.

        Args:
            last: who had it before; if that is dead, this run acts in its stead.

        """
        if last is not None:
            self.run = last.reach.get("run") or self.run
        external = self.external
        return {
            "context": external.context,
            "kubeconfigs": external.kubeconfigs,
            "run": self.run,
            "sidecar": external.sidecar,
        }

    def let_go(self) -> None:
        """Remove the pods."""
        self.external.close()
        if not self.external.refusal:
            self._pods.close()

    def delete(self) -> None:
        """Nothing: it is not ours."""

    def ensure_kubectl(self) -> None:
        """Make sure that kubectl is there: this machine's, or a node's."""
        if shutil.which(str(self.kubectl_path)):
            return
        try:
            super().ensure_kubectl()
        except (KindCovError, IndexError) as error:
            raise ToolNotFound(
                f"kubectl was not found ({self.kubectl_path})",
                cause="and not on a node",
                remedy="install it, or put it on PATH",
                slug="kubectl-missing",
            ) from error

    @property
    def _pods(self) -> nodepods.NodePods:
        return nodepods.NodePods(self.external.api, self.run, self.cancel)


def again(owner: Owner, directory: Path) -> ExternalCluster:
    """The cluster of a run that was killed.

    Args:
        owner: the run.
        directory: private.

    Raises:
        ClusterError: it cannot be reached, or its context leads to another one now.

    """
    reach = owner.reach
    # Nothing is deployed: whether nodes can be reached was seen by that run.
    engine = connect(
        reach["context"], directory, kubeconfigs=reach["kubeconfigs"], sidecar=reach["sidecar"]
    )
    if engine.cluster != owner.cluster:
        raise ClusterError(
            f"context {engine.context} leads to another cluster now",
            cause=f"it is {engine.cluster}, and {owner.cluster} was not given back",
            remedy=f"let the context lead there again, in {engine.kubeconfigs}",
            slug="context-missing",
        )
    cluster = ExternalCluster(engine)
    cluster.run = reach["run"]
    return cluster


def _labels(node: Object) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _address(node: Object) -> str:
    told: dict[str, str] = {
        each["type"]: each["address"] for each in node["status"].get("addresses") or []
    }
    return told.get("InternalIP", "") or told.get("ExternalIP", "")


def _is_usable(node: Object) -> bool:
    status = node.get("status") or {}
    ready = any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in status.get("conditions") or []
    )
    return ready and (status.get("nodeInfo") or {}).get("operatingSystem") == "linux"


def _answers(address: str) -> bool:
    """Whether a node can be reached from here: its kubelet listens, or its kernel says no."""
    try:
        with socket.create_connection((address, _KUBELET), _CONNECT):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
