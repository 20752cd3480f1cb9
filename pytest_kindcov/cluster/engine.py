"""The container engine under Kind: which one answers, and what is asked of it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_kindcov._run import head, run
from pytest_kindcov.errors import ClusterError, CommandError, KindCovError, ToolNotFound

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from python_on_whales import DockerClient

# Seconds. A daemon that answers does so in 0.1 s; a busy machine was seen to need more than 20.
_PROBE = 60
_CALL = 60
CLUSTER_LABEL = "io.x-k8s.kind.cluster"
OWN_NODE_IMAGE = "localhost/kindcov-node"
EXTERNAL = "kubernetes"
"""In the place of an engine's name: a cluster that is reached by its API alone."""


@dataclass(frozen=True)
class Container:
    """A node container of a cluster."""

    name: str
    running: bool


@dataclass(frozen=True)
class Engine:
    """docker or podman, by command line: the one interface that both have."""

    name: str
    """`docker` or `podman`; `EXTERNAL` for what stands in an engine's place."""
    reaches_nodes: bool = True
    """Whether node addresses are reachable from here: not in rootless engines and those in a VM."""
    arch: str = ""
    """Go's name of the architecture that its containers run on; empty when it was not asked."""
    info: str = field(default="", compare=False, repr=False)
    """What its `info` said when it was found; may be empty."""

    @property
    def external(self) -> bool:
        """Whether this stands in an engine's place: the nodes are no containers of ours."""
        return self.name == EXTERNAL

    @cached_property
    def kind_env(self) -> dict[str, str]:
        """The environment for every call of kind: it must use this engine, each time."""
        return {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": self.name}

    def kind_command(self, command: str, cluster: str) -> str:
        """A command of kind as the user would type it, such as `delete cluster`."""
        provider = "" if self.name == "docker" else f"KIND_EXPERIMENTAL_PROVIDER={self.name} "
        return f"{provider}kind {command} --name {cluster}"

    @cached_property
    def client(self) -> DockerClient:
        """python-on-whales' client. It has no deadlines, so `timeout` stands before the engine."""
        from python_on_whales import DockerClient

        call = [self.name]
        if shutil.which("timeout"):
            call = ["timeout", "--kill-after=5", str(_CALL), *call]
        kind: Any = self.name
        return DockerClient(client_call=call, client_type=kind)

    def exec_args(self, node: str, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` in a node, standard input connected."""
        return [self.name, "exec", "-i", node, *command]

    def clusters(self) -> dict[str, list[Container]]:
        """The containers of all Kind clusters, control planes first; also stopped ones."""
        label = (
            f'{{{{index .Labels "{CLUSTER_LABEL}"}}}}'
            if self.name == "podman"
            else f'{{{{.Label "{CLUSTER_LABEL}"}}}}'
        )
        args = ["ps", "-a", "--filter", f"label={CLUSTER_LABEL}"]
        form = f"{label}\t{{{{.Names}}}}\t{{{{.State}}}}"
        found: dict[str, list[Container]] = {}
        for line in run([self.name, *args, "--format", form], timeout=_CALL).text.splitlines():
            cluster, name, state = [*line.split("\t"), "", ""][:3]
            running = state.lower().startswith(("running", "up "))  # podman 4 says `Up 3 minutes`
            found.setdefault(cluster, []).append(Container(name, running))
        for nodes in found.values():
            nodes.sort(key=lambda node: ("worker" in node.name, node.name))
        return found

    def remove_containers(self, names: Sequence[str]) -> None:
        """Remove containers, running or not, with their anonymous volumes."""
        run([self.name, "rm", "-f", "-v", *names], timeout=_CALL)

    def nodes(self, cluster: str) -> list[str]:
        """Names of the node containers of a cluster, control planes first; also stopped ones."""
        # One command: python-on-whales inspects each that it lists, and one may be gone by then.
        names = [container.name for container in self.clusters().get(cluster, ())]
        return sorted(names, key=lambda name: ("worker" in name, name))

    def remove_volumes(self, cluster: str) -> None:
        """Remove the volumes of nodes that are not there: kind finds those of its containers only.

        podman's bear their node's name as a label; docker's are anonymous and go with the node.
        """
        if self.name != "podman":
            return
        volumes = self._query(self.client.volume.list, "cannot list the volumes")
        node = re.compile(re.escape(cluster) + r"-(control-plane|worker)\d*")
        left = [volume for volume in volumes if any(map(node.fullmatch, volume.labels or {}))]
        if left:
            self._query(lambda: self.client.volume.remove(left), f"cannot remove {left}")

    def address(self, node: str) -> str:
        """IPv4 address of a node on its engine network; empty when it has none."""
        inspected = self._query(
            lambda: self.client.container.inspect(node), f"cannot inspect the node {node}"
        )
        networks = inspected.network_settings.networks or {}
        return next((net.ip_address for net in networks.values() if net.ip_address), "")

    def published_ports(self, node: str) -> list[int]:
        """The TCP ports of a node that were published on the host, ascending."""
        answer = run([self.name, "port", node], timeout=_CALL).text
        return sorted({int(number) for number in re.findall(r"^(\d+)/tcp", answer, re.MULTILINE)})

    def published(self, node: str, port: int) -> int:
        """The port of 127.0.0.1 on which a node's port was published; 0 when it was not."""
        try:
            answer = run([self.name, "port", node, f"{port}/tcp"], timeout=_CALL).text
        except CommandError:
            return 0
        return int(answer.splitlines()[0].rpartition(":")[2])

    def image_names(self, reference: str) -> list[str]:
        """Tags of the local images whose repository is `reference`, newest first."""
        images = self._query(
            lambda: self.client.image.list(reference), f"cannot list the images {reference}"
        )
        images.sort(key=lambda image: image.created, reverse=True)
        return [tag for image in images for tag in image.repo_tags if tag.startswith(reference)]

    def has_image(self, reference: str) -> bool:
        """Whether the engine's store has an image of that name."""
        return bool(
            self._query(lambda: self.client.image.exists(reference), f"cannot look for {reference}")
        )

    def image_arch(self, reference: str) -> str:
        """Go's name of the architecture that an image of the store is for."""
        image = self._query(
            lambda: self.client.image.inspect(reference), f"cannot inspect {reference}"
        )
        return image.architecture or ""

    def image_id(self, reference: str) -> str:
        """The digest of an image's config, such as `sha256:…`; empty where there is no such image.

        docker with containerd's image store names another digest.
        """
        args = [self.name, "image", "inspect", "--format", "{{.Id}}", reference]
        try:
            found = run(args, timeout=_CALL).text.strip()
        except CommandError:
            return ""
        return found if found.startswith("sha256:") else f"sha256:{found}"

    def start(self, names: Sequence[str]) -> None:
        """Start containers that are stopped."""
        run([self.name, "start", *names], timeout=_CALL)

    def is_running(self, node: str) -> bool:
        """Whether a node's container runs."""
        args = [self.name, "inspect", "--format", "{{.State.Running}}", node]
        return run(args, timeout=_CALL).text.strip() == "true"

    def copy_out(self, node: str, path: str, limit: int, timeout: float) -> bytes:
        """A directory of a node, which may be stopped, as a tar archive.

        Args:
            node: its container.
            path: of the directory, there.
            limit: bytes; what is beyond them is cut off.
            timeout: seconds.

        Raises:
            CommandError: the engine cannot copy it, as when there is no such directory.

        """
        return head([self.name, "cp", f"{node}:{path}", "-"], limit, timeout=timeout)

    def save_args(self, reference: str) -> list[str]:
        """The command line that writes an image to standard output as a docker archive."""
        extra = ["--format", "docker-archive"] if self.name == "podman" else []
        return [self.name, "save", *extra, reference]

    def build(
        self,
        dockerfile: Path,
        context: Path,
        tag: str,
        *,
        timeout: float,
        cancel: threading.Event | None = None,
    ) -> None:
        """Build an image, with the engine's own builder: buildx is not in every docker.

        Raises:
            CommandError: with the build's whole output.

        """
        args: list[str | Path] = [self.name, "build", "-f", dockerfile, "-t", tag, context]
        run(args, timeout=timeout, cancel=cancel)

    def untag(self, reference: str) -> None:
        """Remove an image's name; what other images share with it stays."""
        self._query(lambda: self.client.image.remove(reference), f"cannot remove {reference}")

    def _query(self, call: Any, what: str) -> Any:
        from python_on_whales.exceptions import DockerException

        try:
            return call()
        except DockerException as error:
            text = (error.stderr or str(error)).strip()
            raise CommandError(
                what, cause=text, remedy=f"does `{self.name} info` answer?", slug="engine-failed"
            ) from error


def detect(wanted: str) -> Engine:
    """Find the engine whose daemon answers; kind itself only looks whether the program is there.

    Args:
        wanted: `docker`, `podman`, or `auto`: what KIND_EXPERIMENTAL_PROVIDER says, else docker,
            else podman.

    """
    if wanted == "auto":
        wanted = os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "") or "auto"
    candidates = ("docker", "podman") if wanted == "auto" else (wanted,)
    reasons = []
    for name in candidates:
        try:
            info = _info(name)
            return Engine(name, _reaches_nodes(info), _architecture(info), info)
        except KindCovError as error:
            reasons.append(f"{name}: {error.what}")
    raise ToolNotFound(
        f"no container engine answers ({' and '.join(candidates)} tried)",
        cause="\n".join(reasons),
        remedy="start docker, or install podman",
        slug="no-engine",
    )


def find_cluster(name: str, wanted: str) -> tuple[Engine, list[Container]]:
    """The engine that has a cluster, and its containers, control planes first.

    Args:
        name: of the cluster.
        wanted: `docker`, `podman`, or `auto`: whichever has it.

    Raises:
        ClusterError: there is none of that name; says which there are.
        ToolNotFound: no engine answers.

    """
    reasons, answered = [], False
    for candidate in ("docker", "podman") if wanted == "auto" else (wanted,):
        try:
            engine = detect(candidate)
            answered = True
            clusters = engine.clusters()
        except ToolNotFound as error:
            reasons.append(error.cause or error.what)
            continue
        if name in clusters:
            return engine, clusters[name]
        reasons.append(f"{candidate} has " + (", ".join(sorted(clusters)) or "no cluster"))
    if not answered:
        detect(wanted)  # says so
    raise ClusterError(
        f"there is no cluster {name}",
        cause="\n".join(reasons),
        remedy="name one that is there, or let the run make its own",
        slug="cluster-missing",
    )


def _info(name: str) -> str:
    """What `info` says, which only an engine whose daemon answers does.

    Raises:
        KindCovError: why the engine cannot be used.

    """
    if shutil.which(name) is None:
        raise ToolNotFound("not installed", slug="no-engine")
    try:
        answer = run([name, "info"], timeout=_PROBE).text
    except CommandError as error:
        raise ToolNotFound(
            error.cause.splitlines()[-1] if error.cause else error.what, slug="no-engine"
        ) from error
    if name == "docker" and "buildahVersion" in answer:
        raise ToolNotFound("is podman under another name", slug="no-engine")
    # The docker client prints its own half and exits with 0 on some versions without a daemon.
    if name == "docker" and "Server Version" not in answer:
        raise ToolNotFound("the daemon does not answer", slug="no-engine")
    return answer


def _architecture(info: str) -> str:
    """Go's name of the machine that `info` names: `arch: amd64` or `Architecture: x86_64`."""
    found = re.search(r"^\s*(?:arch|Architecture): (\S+)$", info, re.MULTILINE)
    machine = found[1] if found else ""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)


def _reaches_nodes(info: str) -> bool:
    local = os.environ.get("DOCKER_HOST", "unix://").startswith("unix://")
    in_vm = "Docker Desktop" in info
    rootless = "rootless: true" in info or "\n  rootless\n" in info
    return sys.platform == "linux" and local and not in_vm and not rootless
