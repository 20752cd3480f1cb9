"""One node of the cluster: commands, files and archives, by way of the engine's exec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from pytest_kindcov._run import Output, run

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.engine import Engine

T = TypeVar("T")

# Seconds. One exec takes 0.1 to 0.2 s; a busy engine was seen to need several.
_EXEC = 60.0
# An image of 1 GB was seen to take 15 s.
_LOAD = 300.0

IMPORT = ["ctr", "-n", "k8s.io", "images", "import", "--digests", "--snapshotter=overlayfs", "-"]
"""Reads an image archive from standard input into the node's store."""


@dataclass(frozen=True)
class Node:
    """A node container. Commands run as root in it."""

    name: str
    engine: Engine

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes | IO[bytes] | None = None,
        timeout: float = _EXEC,
        cancel: threading.Event | None = None,
    ) -> Output:
        """Run a command in the node."""
        args = self.engine.exec_args(self.name, command)
        return run(args, stdin=stdin, timeout=timeout, cancel=cancel)

    def script(self, script: str, *args: str, timeout: float = _EXEC) -> Output:
        """Run a fixed bash script in the node; whatever varies comes as `$1`, `$2`, …."""
        return self.run(["bash", "-c", script, "kindcov", *args], timeout=timeout)

    def load(self, archive: Path) -> None:
        """Load a docker archive into the node's store."""
        with archive.open("rb") as stream:
            # Without the name by digest that import makes up: the kubelet takes it for the image's
            # where a pod names its image by another digest, and does not find that.
            command = [word for word in IMPORT if word != "--digests"]
            self.run(command, stdin=stream, timeout=_LOAD)

    def rename(self, source: str, target: str) -> None:
        """Rename an image of the node's store.

        With both names left, containerd reports either for a container, whichever a pod asked for.
        """
        self.run(["ctr", "-n", "k8s.io", "images", "tag", "--force", source, target])
        self.run(["ctr", "-n", "k8s.io", "images", "rm", source])


def on_all(nodes: Sequence[Node], act: Callable[[Node], T]) -> list[T]:
    """Do something on all nodes at once; the first error is raised when all are done."""
    if not nodes:
        return []
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(act, nodes))
