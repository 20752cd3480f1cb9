"""Kind clusters: pytest-kind's `KindCluster`, with its faults mended."""

from __future__ import annotations

import base64
import contextlib
import os
import platform
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_kind
import yaml

from pytest_kindcov import _proxy, _run
from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster import failure, kindconfig, owners, preflight
from pytest_kindcov.cluster.engine import OWN_NODE_IMAGE, Container, Engine, detect
from pytest_kindcov.cluster.node import IMPORT, Node
from pytest_kindcov.cluster.watch import Watch
from pytest_kindcov.errors import Cancelled, ClusterError, CommandError, ToolNotFound

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.ledger import Ledger
    from pytest_kindcov.cluster.owners import Owner

NODE_PORTS = range(30000, 32768)
"""Kubernetes' own range of them."""
_QUERY = 60.0
_LOAD = 300.0
_DELETE = 120.0
_LATE = 5.0  # a node's container is made in one to three seconds: its volume is a copy
_LOCKED = 2.0  # kind holds the lock for milliseconds


class KindCluster(pytest_kind.KindCluster):  # type: ignore[misc] # the parent is untyped
    """A Kind cluster under docker or podman; a drop-in for `pytest_kind.KindCluster`.

    Args:
        name: the cluster's name.
        kubeconfig: where the kubeconfig is written, mode 0600; never the user's own.
        image: node image; default: one that is in the engine already, else kind's own.
        kind_path: the kind program; default: the one on PATH. Nothing is ever downloaded.
        kubectl_path: the kubectl program; default: the one on PATH, else the node's.
        engine: default: the one that answers.

    """

    def __init__(
        self,
        name: str,
        kubeconfig: Path | None = None,
        image: str | None = None,
        kind_path: Path | None = None,
        kubectl_path: Path | None = None,
        *,
        engine: Engine | None = None,
    ) -> None:
        # The parent's constructor makes a directory in the working directory and picks amd64
        # programs to download: it is not called, its attributes are all set here.
        self.name = name
        self.engine = engine or detect("auto")
        self.image = image
        self.platform = platform.system().lower()
        self.path = kubeconfig.parent if kubeconfig else Path(".pytest-kind").resolve() / name
        self.kubeconfig_path = kubeconfig or self.path / "kubeconfig"
        self.kind_path = kind_path or Path(shutil.which("kind") or "kind")
        self.kubectl_path = kubectl_path or Path(shutil.which("kubectl") or self.path / "kubectl")
        self.created = False
        """Whether this object made the cluster."""
        self.scratch = self.path
        """The directory that goes with the cluster, should its run be killed."""
        self.client: Api | None = None
        """A client of its API server, as soon as one is needed."""
        self.ledger: Ledger | None = None
        """What is changed on a cluster that is to be given back as it was; None for one of ours."""
        self.sidecar = ""
        """Where nodes cannot be reached: image of what reads coverage in workloads instead."""
        self.refusal = ""
        """Why nodes cannot be reached."""
        self.whole = False
        """Whether kind made it to the end, in this run or before."""
        _proxy.bypass("127.0.0.1", "localhost")  # where the API server is

    @cached_property
    def api(self) -> Any:
        """The parent's pykube client."""
        import pykube

        # pykube writes each certificate and the key that it finds in the text into a file of /tmp,
        # readable for all and for ever; files it takes as they are.
        config = yaml.safe_load(self.kubeconfig_path.read_text())
        directory = Path(tempfile.mkdtemp(prefix="certificates-", dir=self.path))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        for number, entry in enumerate([*config["clusters"], *config["users"]]):
            values = entry.get("cluster") or entry.get("user") or {}
            for name in [each for each in values if each.endswith("-data")]:
                file = directory / f"{number}-{name}"
                file.write_bytes(base64.b64decode(values.pop(name)))
                values[name.removesuffix("-data")] = str(file)
        return pykube.HTTPClient(pykube.KubeConfig(config))

    @cached_property
    def node_image(self) -> str:
        """The node image that is named, else one in the engine's store; "": kind's own.

        Ours was built where none can be pulled.
        """
        return self.image or next(iter(self.engine.image_names(OWN_NODE_IMAGE)), "")

    @cached_property
    def nodes(self) -> list[Node]:
        """The cluster's nodes, control planes first; asked for once, when the cluster is there."""
        return [Node(name, self.engine) for name in self.engine.nodes(self.name)]

    @cached_property
    def entry(self) -> Node:
        """The node by which services are reached."""
        return self.nodes[0]

    @cached_property
    def forwarded(self) -> Sequence[int]:
        """Node ports that are published on the host; empty where nodes are reached directly.

        Raises:
            ClusterError: nodes are not reached directly, and the cluster, not of our making,
                publishes none.

        """
        if self.engine.reaches_nodes:
            return ()
        if self.created:
            return kindconfig.FORWARDED
        published = self.engine.published_ports(self.nodes[0].name)
        found = [port for port in published if port in NODE_PORTS]
        if not found:
            raise ClusterError(
                f"the services of cluster {self.name} cannot be reached from here",
                cause=f"{self.engine.name}'s nodes have no address that can be reached, and the"
                " cluster publishes no node port on the host",
                remedy="make it with extraPortMappings whose containerPort is from 30000 to 32767,"
                " or say --kind-coverage-address=node if its address can be reached",
                slug="no-node-port",
            )
        return found

    def create(
        self,
        config_file: str | Path | None = None,
        *,
        timeout: float = 600.0,
        cancel: threading.Event | None = None,
        new: bool = False,
        logs: Path | None = None,
        key: dict[str, str] | None = None,
    ) -> None:
        """Create the cluster, or take an existing one of that name.

        An exit code of 0 does not mean that the cluster is ready; `deploy` waits for what it needs.

        Args:
            config_file: kind's config.
            timeout: seconds.
            cancel: when set, the creation is given up.
            new: the name is like no other: one of that name is not looked for.
            logs: directory in which a failed cluster's logs are saved, under its name.
            key: what it is made from, by which another run knows whether it may use it.

        Raises:
            ClusterError: with the cause, as far as it can be found. The nodes are still there: it
                is for `delete` to remove what is left.

        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.ensure_kind()
        present = None if new else self.engine.clusters().get(self.name)
        if present:
            self.take(present, logs)
            return
        self._wait_unlocked()
        image = self.node_image
        hints = preflight.gate(self.engine, image, config_file)
        args = ["create", "cluster", "--name", self.name, "--retain"]
        args += ["--kubeconfig", str(self.kubeconfig_path)]
        args += ["--image", image] if image else []
        config_file = kindconfig.write(
            config_file, self.path / "kind.yaml", published=not self.engine.reaches_nodes
        )
        args += ["--config", str(config_file)]
        self._own_kubeconfig()
        owners.claim(self.name, self.engine, self.scratch, key=key)
        self.created = True  # from here on there may be something to delete
        watch = Watch(self.engine, self.name, cancel)
        try:
            self._kind(*args, timeout=timeout, cancel=watch)
        except (CommandError, Cancelled) as error:
            if isinstance(error, Cancelled) and not watch.why:
                raise
            raise failure.explain(
                f"kind could not create the cluster {self.name} ({self.engine.name})",
                CommandError(error.what, output=watch.why) if watch.why else error,
                self.engine,
                self.name,
                logs,
                hints=hints,
            ) from error
        finally:
            watch.close()
        self.whole = True

    def take(self, containers: Sequence[Container], logs: Path | None = None) -> None:
        """Use a cluster that is there already.

        Args:
            containers: its nodes, control planes first.
            logs: directory for its logs, should it be of no use.

        Raises:
            ClusterError: it does not run, or kind does not know its kubeconfig.

        """
        stopped = [each.name for each in containers if not each.running]
        if stopped:
            raise ClusterError(
                f"cluster {self.name} ({self.engine.name}) is there, but it does not run",
                cause=f"not running: {', '.join(stopped)}; its making was interrupted, or it was"
                " stopped",
                remedy=f"delete it: `kind delete cluster --name {self.name}`, or start it:"
                f" `{self.engine.name} start {' '.join(stopped)}`",
                slug="cluster-not-running",
            )
        self.kubeconfig_path = self.scratch / "kubeconfig"  # the user's may hold other clusters
        try:
            self._fetch_kubeconfig()
        except CommandError as error:
            what = f"cluster {self.name} ({self.engine.name}) is there, but it cannot be used"
            raise failure.explain(what, error, self.engine, self.name, logs) from error
        self.whole = True
        self.nodes = [Node(each.name, self.engine) for each in containers]

    def delete(self) -> None:
        """Delete the cluster with its containers and volumes; fine if it is gone already.

        Raises:
            ClusterError: what is left of it, be it only its entry in the kubeconfig.

        """
        args = ["--name", self.name, "--kubeconfig", str(self.kubeconfig_path)]
        failed = None
        try:
            self._kind("delete", "cluster", *args, timeout=_DELETE)
        except CommandError as error:
            failed = error
        # Of nodes that somebody removed by hand, podman keeps the volumes, and kind knows none.
        self.engine.remove_volumes(self.name)
        left = self.engine.nodes(self.name) if self.whole else self._remove_late()
        if left:
            raise ClusterError(
                f"cluster {self.name} was not deleted whole",
                cause=f"these containers are left: {', '.join(left)}",
                remedy=f"{self.engine.name} rm -f -v {' '.join(left)}",
                slug="cluster-not-deleted",
            ) from failed
        owners.release(self.name, self.engine)
        if failed is not None:
            raise ClusterError(
                f"cluster {self.name} was deleted, but kind failed",
                cause=failed.cause,
                remedy=f"its entry may be left: `kind delete cluster {' '.join(args)}`",
                slug="cluster-not-deleted",
            ) from failed

    def load_docker_image(self, docker_image: str, nodes: Sequence[Node] | None = None) -> None:
        """Load an image of the engine's store into nodes (default: all), by a pipe."""
        nodes = self.nodes if nodes is None else nodes
        if not nodes:
            return
        sinks = [self.engine.exec_args(node.name, IMPORT) for node in nodes]
        _run.pipe(self.engine.save_args(docker_image), sinks, timeout=_LOAD)

    def reach(self, last: Owner | None) -> dict[str, str]:  # noqa: ARG002
        """What to note of a cluster besides its name, so that others can reach it: nothing.

        Args:
            last: who had it before.

        """
        return {}

    def do_without_nodes(self, why: str) -> bool:  # noqa: ARG002
        """Have coverage read in workloads instead of on nodes, from now on.

        Args:
            why: what is wrong with the nodes.

        Returns:
            Whether that can be: never on Kind's own.

        """
        return False

    def let_go(self) -> None:
        """What is left to do when a cluster was given back: for Kind's, nothing."""

    def booted(self) -> list[Node]:
        """The nodes whose containerd answers: kind goes on creating the cluster for long after."""
        names = self.engine.nodes(self.name)
        try:
            for name in names:
                Node(name, self.engine).run(["ctr", "version"], timeout=_QUERY)
        except CommandError:
            return []
        return [Node(name, self.engine) for name in names]

    def kubectl(self, *args: str, **kwargs: Any) -> str:
        """Run kubectl against the cluster and return its standard output.

        Args:
            args: kubectl's arguments.
            kwargs: as for `subprocess.check_output`; `timeout` defaults to 60 s.

        """
        self.ensure_kubectl()
        environment = {**os.environ, **(kwargs.pop("env", None) or {})}
        environment["KUBECONFIG"] = str(self.kubeconfig_path)
        # Without HOME it is the working directory.
        environment.setdefault("KUBECACHEDIR", str(self.path / "cache"))
        kwargs = {"encoding": "utf-8", "timeout": _QUERY, "stdin": subprocess.DEVNULL, **kwargs}
        if "input" in kwargs:
            del kwargs["stdin"]
        output: str = subprocess.check_output(
            [str(self.kubectl_path), *args], env=environment, **kwargs
        )
        return output

    @contextlib.contextmanager
    def port_forward(
        self,
        service_or_pod_name: str,
        remote_port: int,
        *args: str,
        local_port: int | None = None,
        retries: int = 10,
    ) -> Iterator[int]:
        """Run `kubectl port-forward` and yield the local port once it is open.

        Args:
            service_or_pod_name: such as `service/orders`.
            remote_port: the port there.
            args: more arguments of kubectl.
            local_port: default: a free one.
            retries: seconds to wait for the port, and attempts if kubectl ends.

        """
        self.ensure_kubectl()
        for attempt in range(retries):
            port = local_port or _free_port()
            process = subprocess.Popen(
                [
                    str(self.kubectl_path),
                    "port-forward",
                    service_or_pod_name,
                    f"{port}:{remote_port}",
                    *args,
                ],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig_path)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                if _opens(port, process, seconds=retries):
                    yield port
                    return
            finally:
                _run.kill(process)
                _, stderr = process.communicate()
            if attempt < retries - 1:
                time.sleep(0.2)
        raise ClusterError(
            f"kubectl port-forward {service_or_pod_name} {remote_port} did not open a port",
            cause=_run.last_lines(stderr),
            slug="port-forward-failed",
        )

    def ensure_kind(self) -> None:
        """Make sure that kind is there.

        Raises:
            ToolNotFound: never downloads; names the remedy.

        """
        if shutil.which(str(self.kind_path)) is None:
            raise ToolNotFound(
                f"kind was not found ({self.kind_path})",
                remedy="install it (`go install sigs.k8s.io/kind@latest`), or name it with"
                " --kind-coverage-kind-bin",
                slug="kind-missing",
            )

    def ensure_kubectl(self) -> None:
        """Make sure that kubectl is there; on Linux the node's own program serves."""
        if shutil.which(str(self.kubectl_path)):
            return
        if self.platform != "linux":
            raise ToolNotFound(
                f"kubectl was not found ({self.kubectl_path})", slug="kubectl-missing"
            )
        data = self.nodes[0].run(["sh", "-c", 'cat "$(command -v kubectl)"']).stdout
        partial = self.kubectl_path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.chmod(0o700)
        partial.rename(self.kubectl_path)

    def _kind(
        self, *args: str, timeout: float, cancel: threading.Event | None = None
    ) -> _run.Output:
        self.ensure_kind()
        return _run.run(
            [self.kind_path, *args], timeout=timeout, env=self.engine.kind_env, cancel=cancel
        )

    def _remove_late(self) -> list[str]:
        """Remove nodes that come after kind was ended: docker's daemon goes on with what it began.

        Returns:
            Those that are left.

        """
        deadline = time.monotonic() + (_LATE if self.engine.name == "docker" else 0)
        while True:
            left = self.engine.nodes(self.name)
            if left:
                with contextlib.suppress(CommandError):  # it went meanwhile
                    self.engine.remove_containers(left)
            if time.monotonic() >= deadline:
                return self.engine.nodes(self.name)
            time.sleep(0.5)

    def _wait_unlocked(self) -> None:
        """Wait for another kind that writes the kubeconfig now; one that was killed left its lock.

        Kind itself looks for it last of all, when the cluster is made.
        """
        lock = self.kubeconfig_path.with_name(self.kubeconfig_path.name + ".lock")
        wait_until(
            lambda: not lock.exists(),
            what=f"the kubeconfig {self.kubeconfig_path} is locked",
            timeout=_LOCKED,
            state=lambda: f"{lock} is there",
            remedy="remove it if no kind is running; without --kubeconfig each run has a file of"
            " its own",
            slug="kubeconfig-locked",
            error=ClusterError,
        )

    def _own_kubeconfig(self) -> None:
        self.kubeconfig_path.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig_path.touch(mode=stat.S_IRUSR | stat.S_IWUSR, exist_ok=True)
        self.kubeconfig_path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    def _fetch_kubeconfig(self) -> None:
        config = self._kind("get", "kubeconfig", "--name", self.name, timeout=_QUERY).stdout
        self._own_kubeconfig()
        self.kubeconfig_path.write_bytes(config)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _opens(port: int, process: subprocess.Popen[bytes], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False
