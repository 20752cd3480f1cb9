"""What each test of the example runs in a process of its own: the yardstick of attribution."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from coverage.numbits import numbits_to_nums
from gocover import Go
from harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

ORDERS = ROOT / "examples/orders"
# In place of the cluster: the same tests against a process on this machine.
LOCAL = """
import types
import pytest

@pytest.fixture(scope="session")
def orders():
    return types.SimpleNamespace(url="http://127.0.0.1:{port}")
"""

Lines = frozenset[tuple[str, int]]


def attributed(data: Path) -> dict[str, set[tuple[str, int]]]:
    """Contexts of a `.coverage` file, and their lines: path in the repository, and number."""
    with sqlite3.connect(f"file:{data}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT context, path, numbits FROM line_bits"
            " JOIN context ON context.id = context_id JOIN file ON file.id = file_id"
        ).fetchall()
    found: dict[str, set[tuple[str, int]]] = {}
    for context, path, bits in rows:
        name = path.removeprefix(f"{data.parent.parent}/")
        found.setdefault(context, set()).update((name, line) for line in numbits_to_nums(bits))
    return found


@cache
def alone() -> tuple[Lines, dict[str, Lines]]:
    """Lines that a process without requests runs; and by test those that its requests add."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        program = Go().build(ORDERS, place / "program", "-covermode=atomic", package="./cmd/orders")
        idle = _run(program, place / "idle", [])
        listed = _pytest(place, "--collect-only", "-q").splitlines()
        tests = [line for line in listed if "::" in line]
        assert len(tests) > 5, listed
        return idle, {
            test: _run(program, place / str(number), [test]) - idle
            for number, test in enumerate(tests)
        }


def _run(program: Path, place: Path, tests: list[str]) -> Lines:
    def act(port: int) -> None:
        (place / "local.py").write_text(LOCAL.format(port=port))
        if tests:
            _pytest(place, *tests)

    return lines(program, place, act)


def lines(program: Path, place: Path, act: Callable[[int], object]) -> Lines:
    """What a process of the service runs, from its start to its end.

    Args:
        program: the orders service, built with coverage.
        place: a directory that is not there yet.
        act: what to do with it, at a port of this machine.

    """
    covdata = place / "covdata"
    covdata.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "GOCOVERDIR": str(covdata), "ORDERS_ADDR": f"127.0.0.1:{port}"}
    with subprocess.Popen([str(program)], env=env, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port)
            act(port)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    found = set()
    for line in Go().textfmt(place, covdata):
        block, _, count = line.rpartition(" ")
        if block.startswith("mode:") or count == "0":
            continue
        path, _, span = block.partition(":")
        first, last = (int(part.split(".")[0]) for part in span.split(" ")[0].split(","))
        last -= span.split(" ")[0].endswith(".1")
        name = path.removeprefix("example.com/orders/")
        found |= {(name, number) for number in range(first, max(first, last) + 1)}
    return frozenset(found)


def _pytest(place: Path, *args: str) -> str:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--noconftest"]
    words += ["-p", "no:kindcov", "-p", "local", *args]
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    if not (place / "local.py").exists():
        (place / "local.py").write_text(LOCAL.format(port=0))
    done = subprocess.run(
        words,
        cwd=ORDERS,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the program does not listen")
