"""This machine as a node, real Go processes as its containers, and a /proc that says so."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.engine import Engine
from pytest_kindcov.cluster.node import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

LIVE = Path(__file__).parents[1] / "programs" / "live"
CONTAINER = "c0ffee" + "0" * 58
# What reader.sh may use.
TOOLS = ("bash", "cat", "dd", "find", "head", "mktemp", "od", "rm", "stat")


@dataclass(frozen=True)
class LocalEngine(Engine):
    """Runs a node's commands here, behind `prefix`."""

    name: str = "local"
    prefix: tuple[str, ...] = ()

    def exec_args(self, node: str, command: Sequence[str]) -> list[str]:
        return [*self.prefix, *command]


def local_node(name: str = "node", *prefix: str) -> Node:
    return Node(name, LocalEngine(prefix=prefix))


def without_perl(directory: Path) -> Node:
    """A node with nothing but what reader.sh may use."""
    directory.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (directory / tool).symlink_to(found)
    return local_node("node", "env", f"PATH={directory}")


@dataclass
class Proc:
    """A directory that looks like a node's /proc, with the processes that it is given."""

    path: Path
    processes: list[Service] = field(default_factory=list)

    def add(self, pid: int, container: str = CONTAINER) -> None:
        entry = self.path / str(pid)
        entry.mkdir()
        for name in ("auxv", "exe", "mem", "stat", "status"):
            (entry / name).symlink_to(f"/proc/{pid}/{name}")
        self.move(pid, container)

    def move(self, pid: int, container: str) -> None:
        """Into a container's cgroup; empty: the node's own."""
        where = f"/kubelet/pod1/{container}" if container else "/system.slice/containerd.service"
        (self.path / str(pid) / "cgroup").write_text(f"9:pids:{where}\n0::{where}\n")

    def start(self, program: Path | str, *, data: Path | None = None) -> Service:
        environment = {**os.environ, "GOCOVERDIR": str(data) if data else ""}
        process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        service = Service(process)
        self.processes.append(service)
        assert service.line() == "ready"
        self.add(process.pid)
        return service

    def close(self) -> None:
        for service in self.processes:
            service.process.kill()
            service.end()


@dataclass
class Service:
    """One run of the program `live`."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0], "it says nothing"
        return self.process.stdout.readline().decode().strip()

    def do(self, word: str, answer: str = "done") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        if answer:
            assert self.line() == answer

    def end(self) -> None:
        """Its input ends, and so does it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
