"""The example's own tests against real processes of its service: one for each test, no cluster.

What a test ran is then what its process counted beyond one that served nothing, by Go's own tools
as well as by ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gocover import Go

from pytest_kindcov.covdata import store
from pytest_kindcov.report import contexts, make, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindcov.covdata.model import Meta
    from pytest_kindcov.report.model import Report

ORDERS = Path(__file__).parents[2] / "examples" / "orders"
IDLE = "[startup]"
HOME = "ORDERSRUN"
_LIMIT = 30.0  # seconds for a test
# Put beside the example's tests, in place of its conftest. What differs from run to run, as ids and
# times do, is taken out of the answers.
_CONFTEST = """
import httpx, json, ordersrun, os, pathlib, pytest, re, types

@pytest.fixture
def orders(request, monkeypatch):
    send, name = httpx.Client.send, request.node.nodeid
    def noted(self, *args, **kwargs):
        answer = send(self, *args, **kwargs)
        heads = {k: v for k, v in answer.headers.items() if k not in ("date", "content-length")}
        text = json.dumps([answer.status_code, heads, answer.text])
        text = re.sub("ord_[0-9a-f]+|[0-9]{4}-[0-9-]+T[0-9:.]+Z", "X", text)
        with open(os.environ[ordersrun.HOME] + "/answers", "a") as file:
            file.write(json.dumps([name, text]) + "\\n")
        return answer
    monkeypatch.setattr(httpx.Client, "send", noted)
    with ordersrun.served(name) as url:
        yield types.SimpleNamespace(url=url)

def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        with open(os.environ[ordersrun.HOME] + "/outcomes", "a") as file:
            file.write(json.dumps([report.nodeid, report.outcome]) + "\\n")
"""


@dataclass(frozen=True)
class OrdersRun:
    """A run.

    Args:
        directory: of everything that it made.
        data: by test, and by IDLE, where its process left its files.
        source: of the service.

    """

    directory: Path
    data: dict[str, Path]
    source: Path = ORDERS

    @cached_property
    def counters(self) -> dict[str, np.ndarray[tuple[int], np.dtype[np.uint32]]]:
        found = {}
        for name, path in self.data.items():
            (program,) = store.read([path]).programs
            found[name] = program.counters
        return found

    def report(self) -> Report:
        """The report of all, with who ran what."""
        everything = store.read(self.data.values())
        run = make.Run(data=self.write(self.directory), title="example.com/orders")
        made = make.report(everything, sources.repository(self.source), run)
        assert made is not None
        return made

    def write(self, directory: Path) -> Path:
        """Write the data file of all."""
        idle = self.counters[IDLE]
        ran = [
            (
                name,
                {
                    self.meta.hash: np.flatnonzero(own > (0 if name == IDLE else idle)).astype(
                        np.int32
                    )
                },
            )
            for name, own in self.counters.items()
        ]
        own = sources.repository(self.source)
        return contexts.write(directory, own, {self.meta.hash: self.meta}, ran)

    @cached_property
    def meta(self) -> Meta:
        """What the service can cover."""
        return store.read([self.data[IDLE]]).programs[0].meta

    def noted(self, what: str) -> dict[str, list[str]]:
        """By test, its `outcomes` or `answers`."""
        found: dict[str, list[str]] = {}
        file = self.directory / what
        for line in file.read_text().splitlines() if file.exists() else ():
            name, text = json.loads(line)
            found.setdefault(name, []).append(text)
        return found

    def truth(self, file: str, line: int) -> set[str]:
        """The tests that ran a line, as `go tool covdata textfmt` has it.

        Args:
            file: Go's name of it.
            line: from 1.

        """
        return self._truth.get((file, line), set())

    @cached_property
    def _truth(self) -> dict[tuple[str, int], set[str]]:
        blocks = {name: self._blocks(name) for name in self.data}
        found: dict[tuple[str, int], set[str]] = {}
        for name, own in blocks.items():
            for (file, first, last, span), count in own.items():
                if count > (0 if name == IDLE else blocks[IDLE][file, first, last, span]):
                    for line in range(first, last + 1):
                        found.setdefault((file, line), set()).add(name)
        return found

    def _blocks(self, name: str) -> dict[tuple[str, int, int, str], int]:
        """By file, first and last line and place how often a block with statements ran."""
        scratch = self.directory / "text"
        text = Go().covdata("textfmt", self.data[name], output=scratch)
        found = {}
        for row in text.splitlines()[1:]:
            place, statements, count = row.split(" ")
            path, _, span = place.rpartition(":")
            first, last = (int(end.split(".")[0]) for end in span.split(","))
            if int(statements):
                found[path, first, last, span] = int(count)
        return found


def build(directory: Path, source: Path = ORDERS) -> None:
    """Build the service."""
    directory.mkdir(exist_ok=True, parents=True)
    # Without what debuggers want it is linked in half the time.
    flags = ("-covermode=atomic", "-coverpkg=./...", "-ldflags=-s -w")
    Go().build(source, directory / "orders", *flags, package="./cmd/orders")


def run(directory: Path) -> OrdersRun:
    """Build the service, and run the example's tests."""
    build(directory)
    return test(directory)


def test(
    directory: Path, source: Path = ORDERS, only: Sequence[str] = (), *, passes: bool = True
) -> OrdersRun:
    """Run the example's tests against a service that was built there.

    Args:
        directory: of the service.
        source: what it was built from.
        only: node ids; none: all.
        passes: whether all must pass.

    """
    for left in directory.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != "orders":
            left.unlink()
    with served(IDLE, directory):
        pass
    tests = directory / "tests" / "e2e"
    tests.mkdir(parents=True)
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text(_CONFTEST)
    (tests / "test_orders.py").write_bytes((source / "tests/e2e/test_orders.py").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(only or ["tests/e2e"])],
        cwd=directory,
        env={
            **os.environ,
            HOME: str(directory),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not passes, done.stdout + done.stderr
    names = (directory / "names").read_text().splitlines()
    return OrdersRun(
        directory, {json.loads(n): directory / f"data{i}" for i, n in enumerate(names)}, source
    )


@contextlib.contextmanager
def served(name: str, directory: Path | None = None) -> Iterator[str]:
    """The service's URL, for one test, whose name is noted."""
    directory = directory or Path(os.environ[HOME])
    names = directory / "names"
    number = len(names.read_text().splitlines()) if names.exists() else 0
    with names.open("a") as file:
        file.write(json.dumps(name) + "\n")
    data = directory / f"data{number}"
    data.mkdir()
    process = subprocess.Popen(
        [directory / "orders", "-addr=127.0.0.1:0"],
        env={**os.environ, "GOCOVERDIR": str(data)},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    limit = threading.Timer(_LIMIT, process.kill)  # a changed service may never end
    limit.start()
    try:
        address = json.loads(process.stderr.readline())["addr"]
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.stderr.close()
        process.wait(30)
        limit.cancel()
