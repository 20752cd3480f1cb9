"""An engine that stops answering before the harvest. podman has no daemon that could."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment, repository, run
from harness import DOCKER, Runner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import TestEngine

TESTS = """
import os, time
from cluster import hit

def test_engine(web):
    hit(web, "a", 5)
    os.mkdir("gone")
    time.sleep(1)
"""


class Door:
    """A socket that leads to the engine's, until a file is there; then nobody answers.

    So it is for the run as when the daemon was killed, whose containers go on as well, while others
    on this machine keep their daemon.
    """

    def __init__(self, path: Path, engine: str, until: Path) -> None:
        self._engine = engine
        self._until = until
        self._open: list[socket.socket] = []
        self._carriers: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._listener.settimeout(0.1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until nobody answers any more."""
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._until.exists():
            with contextlib.suppress(TimeoutError):
                one, _ = self._listener.accept()
                other = socket.socket(socket.AF_UNIX)
                other.connect(self._engine)
                self._open += [one, other]
                for pair in ((one, other), (other, one)):
                    self._carriers.append(threading.Thread(target=_carry, args=pair, daemon=True))
                    self._carriers[-1].start()
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._carriers:
            thread.join(10)
        for each in self._open:
            each.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def runner(engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path) -> Iterator[Runner]:
    made = Runner.within(tmp_path, engine, node_image, kind_bin)
    host = engine.env.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    first = Door(tmp_path / "door", host, tmp_path / "repository/gone")
    made.env["DOCKER_HOST"] = f"unix://{tmp_path / 'door'}"
    yield made
    # The engine is back: what the run could not remove is known, and removed.
    first.join()
    (tmp_path / "door").unlink()
    second = Door(tmp_path / "door", host, tmp_path / "closed")
    doctor = [sys.executable, "-m", "pytest_kindcov", "doctor", "--remove"]
    done = subprocess.run(
        doctor, env=made.env, cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    (tmp_path / "closed").touch()
    second.join()
    assert b"removed cluster" in done.stdout, done.stdout + done.stderr
    assert made.left_behind() == []


@DOCKER
def test_engine_gone_before_the_harvest(runner: Runner, tmp_path: Path) -> None:
    files = {"web.yaml": deployment("web")}
    place = repository(tmp_path / "repository", conftest("web"), TESTS, files)
    result = run(runner, place)
    row = Row(
        "engine",
        1,
        message=r"^ERROR the coverage files of node \S+ cannot be read",
        slug="node-not-readable",
        says=("(?i)docker daemon", "remedy: .*does the engine answer"),
        counts={"a": 5, "never": 0},
        left=(r"^kindcov-\d+-\S+-control-plane$", "/home/state/kindcov/", r"^process .*docker"),
    )
    row.check(result)
