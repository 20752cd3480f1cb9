"""What the live reading costs tests and services: `python bench/overhead.py [PAIRS]`.

On the example, deployed on a real cluster under the engine that KINDCOV_ENGINE names: the time that
each of 200 tests is held up before and after; and the service's throughput and latency under load
with ten readings a second, in turns with none, as ratios of one run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).parent
EXAMPLE = BENCH.parent / "examples" / "orders"
TESTS = """
import json, os, statistics, subprocess, time
import pytest
from pytest_kindcov.harvest.record import Recorder

RESULT = {}

@pytest.mark.parametrize("number", range(200))
def test_nothing(orders, number):
    pass

def test_load(orders, recorder):
    def slice():
        command = [os.environ["LOAD"], "-url", orders.url + "/orders", "-for", "2s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                if reading:
                    recorder.read()
                time.sleep(0.1)
            return [float(word) for word in process.stdout.read().split()]
    pairs = []
    for number in range(int(os.environ["PAIRS"])):
        pair = {}
        for reading in (False, True) if number % 2 else (True, False):
            pair[reading] = slice()
        pairs.append((pair[False], pair[True]))
    RESULT["pairs"] = pairs

def test_result(held):
    with open(os.environ["RESULT"], "w") as file:
        json.dump({"held": held[5:200], **RESULT}, file)
"""
CONFTEST = """
import time
import pytest
from pytest_kindcov import go_service
from pytest_kindcov.harvest.record import Recorder
from pytest_kindcov.session.live import OwnerLive

orders = go_service("./cmd/orders", manifests="deploy/", port=8080)
made, times = [], []
init = Recorder.__init__

def watched(self, *args):
    init(self, *args)
    made.append(self)

def timed(method):
    def call(self, *args):
        begin = time.perf_counter()
        method(self, *args)
        times.append(time.perf_counter() - begin)
    return call

Recorder.__init__ = watched
OwnerLive.enter, OwnerLive.leave = timed(OwnerLive.enter), timed(OwnerLive.leave)

@pytest.fixture
def recorder():
    return made[0]

@pytest.fixture
def held():
    return [a + b for a, b in zip(times[::2], times[1::2])]
"""


def main() -> None:
    """Print the figures."""
    import numpy as np

    pairs = sys.argv[1] if len(sys.argv) > 1 else "8"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        load, result = directory / "load", directory / "result"
        build = ["go", "build", "-o", str(load), "."]
        subprocess.run(build, cwd=BENCH / "load", check=True)
        repository = directory / "orders"
        shutil.copytree(EXAMPLE, repository, ignore=shutil.ignore_patterns("tests", ".kindcov"))
        (repository / "conftest.py").write_text(CONFTEST)
        (repository / "test_load.py").write_text(TESTS)
        env = {**os.environ, "LOAD": str(load), "RESULT": str(result), "PAIRS": pairs}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        options = ["-c", "/dev/null", "--rootdir=.", "--kind-coverage", "--kind-coverage-poll=0"]
        subprocess.run([*command, *options, "test_load.py"], cwd=repository, env=env, check=True)
        found = json.loads(result.read_text())
    held = 1000 * np.array(found["held"])
    print(f"each of {len(held)} tests is held up: median {np.median(held):.2f} ms,", end=" ")
    print(f"90 % below {np.percentile(held, 90):.2f} ms")
    ratios = np.array([np.array(reading) / np.array(none) for none, reading in found["pairs"]])
    for title, column in zip(
        ("throughput", "median latency", "p99 latency"), ratios.T, strict=True
    ):
        spread = f"{column.min():.3f} to {column.max():.3f}"
        print(f"{title} with 10 readings/s: {np.median(column):.3f} x ({spread}, {pairs} pairs)")


if __name__ == "__main__":
    main()
