"""Who ran what, of 200 tests, against one restart of the service for each test.

Ours: what 200 tests that each ask the service are held up before and after, and what sorting it out
and writing it takes in the end. Without the plugin a program writes its counters when it ends: so
it must end after each test. Measured is one restart for each pair (kubectl rollout restart, rollout
status, and the service answers again), and taken 200 times; that each of these would have to be
copied and read as well is not counted.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from machine import CONFTEST
from pairs import Goal, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Bench

TESTS = 200
HEAD = """
import os, subprocess, time, urllib.request
import probe, pytest

def ask(orders):
    return urllib.request.urlopen(orders.url + "/orders", timeout=10).status == 200
"""
BLOCK = """
@pytest.mark.parametrize("number", range(%(tests)d))
def test_%(block)d(orders, number):
    assert ask(orders)

def test_restart_%(block)d(orders, kind_cluster):
    kubectl = [os.environ["KUBECTL"], "--kubeconfig", str(kind_cluster.kubeconfig_path)]
    kubectl += ["-n", "orders", "rollout"]
    begin = time.perf_counter()
    subprocess.run([*kubectl, "restart", "deployment/orders"], check=True, timeout=60)
    status = [*kubectl, "status", "deployment/orders", "--timeout=60s"]
    subprocess.run(status, check=True, timeout=90)
    orders.wait(lambda: ask(orders), interval=0.01)
    probe.NOTES.setdefault("restarts", []).append(time.perf_counter() - begin)
"""


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    blocks = [BLOCK % {"tests": TESTS, "block": number} for number in range(bench.pairs)]
    repository = bench.repository(CONFTEST, HEAD + "".join(blocks))
    notes = bench.ours(repository, KUBECTL=str(bench.kubectl)).values
    booked = notes["booked"] / bench.pairs
    ours, medians = [], []
    for number in range(bench.pairs):
        held = [seconds for test, seconds in notes["held"].items() if f"::test_{number}[" in test]
        assert len(held) == TESTS, len(held)
        ours.append(sum(held) + booked)
        medians.append(statistics.median(held))
    restarts = tuple(TESTS * seconds for seconds in notes["restarts"])
    other = f"{TESTS} restarts, of which one is measured"
    figure = f"who ran what, of {TESTS} tests"
    yield Row(figure, "s", tuple(ours), other, restarts, Goal("faster", 50))
    each = tuple(1000 * seconds for seconds in medians)
    yield Row("a test is held up, median", "ms", each, goal=Goal("median", 2))
