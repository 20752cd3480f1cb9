"""What one does without the plugin, by the commands that one would type. Each has a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

REFERENCE = "registry.example/orders:dev"
"""The image's name in the example's manifests."""
BUILD = ("go", "build", "-cover", "-covermode=atomic", "-coverpkg=./...")
_LIMIT = 600.0  # seconds
_CLEANUP = 60.0  # seconds for a run to delete its cluster
_STARTS = 30.0  # seconds for a port-forward to say its ports
_DOCKERFILE = 'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n'


def call(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = _LIMIT,
) -> str:
    """Run a command that must work; give what it printed. A failure shows both outputs."""
    words = [str(word) for word in command]
    with subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            # Not killed at once: a run would leave its cluster behind.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_CLEANUP)
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}\nended with {process.returncode}:\n{output}{errors}")
    return output


def build(source: Path, directory: Path, package: str = "./cmd/orders") -> None:
    """Compile a program with coverage, for an image: `program` in a directory."""
    directory.mkdir(exist_ok=True)
    target = directory / "program"
    call(
        [*BUILD, "-o", target, package], source, {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    )


def image(engine: str, directory: Path, reference: str = REFERENCE) -> None:
    """Build the image of a program."""
    (directory / "Dockerfile").write_text(_DOCKERFILE)
    call([engine, "build", "-q", "-t", reference, directory])


def load(engine: str, kind: str, cluster: str, directory: Path, reference: str = REFERENCE) -> None:
    """Bring an image to a cluster."""
    env = {"KIND_EXPERIMENTAL_PROVIDER": engine}
    name = ["--name", cluster]
    if engine == "docker":
        call([kind, "load", "docker-image", reference, *name], env=env)
        return
    # kind does not see podman's images by their names.
    archive = directory / "image.tar"
    archive.unlink(missing_ok=True)
    call([engine, "save", "-q", "-o", archive, reference])
    call([kind, "load", "image-archive", archive, *name], env=env)


def forget(engine: str, reference: str = REFERENCE) -> None:
    """Remove the image from the engine."""
    with contextlib.suppress(RuntimeError):
        call([engine, "rmi", reference])


@contextlib.contextmanager
def forwarded(kubectl: Sequence[str | Path], target: str, *ports: int) -> Iterator[list[int]]:
    """Port-forwards of one pod or service, whose local ports are open.

    Args:
        kubectl: the command, with its kubeconfig and namespace.
        target: such as `service/orders`.
        ports: of it.

    Yields:
        The local ports, in that order.

    """
    command = [*map(str, kubectl), "port-forward", target, *(f":{port}" for port in ports)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        # A line that does not come would be waited for without end.
        limit = threading.Timer(_STARTS, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            found: dict[int, int] = {}
            for line in process.stdout:
                told = re.search(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line)
                if told:
                    found[int(told[2])] = int(told[1])
                if len(found) == len(ports):
                    break
            limit.cancel()
            if len(found) < len(ports):
                raise RuntimeError(f"{' '.join(command)} does not forward")
            # What it prints of each connection must not fill the pipe.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield [found[port] for port in ports]
        finally:
            limit.cancel()
            process.kill()
