"""What nobody could read, and a clock that jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faulttable import Row, conftest, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch

UNREAD = """
from cluster import get, hit, restarted

def test_unread(web, node):
    hit(web, "a", 3)
    node.kill("web")
    node.wait("web", restarted)
    get(web, "hit/b", tries=50)
"""
# Node and machine have one clock, which nobody may set here: the process's own view of it jumps.
JUMPS = """
import time
from cluster import get, hit, restarted

REAL = time.time

def test_clock(web, node, monkeypatch):
    hit(web, "a", 3)
    time.time = lambda: REAL() + 7200
    hit(web, "a", 4)
    time.time = lambda: REAL() - 7200
    hit(web, "a", 5)
    node.kill("web")
    node.wait("web", restarted)
    get(web, "hit/b", tries=50)
"""


@ONE_ENGINE
def test_killed_before_it_was_read(launch: Launch, shared: Cluster) -> None:
    """Meta data are all that there is of it."""
    off = ("--kind-coverage-poll=0", "--kind-coverage-context=none")
    files = {"web.yaml": deployment("web")}
    result = launch(conftest("web"), UNREAD, *off, files=files, cluster=shared)
    row = Row("unread", 1, message=r"^ERROR default/web-\S+ \(web\) ended without writing",
              slug="coverage-lost",
              says=("not read while it ran: all that it ran is missing", "remedy: .*kindcov_allow"),
              counts={"a": 0, "b": 1})  # fmt: skip
    row.check(result)


@ONE_ENGINE
def test_clock_jumps(launch: Launch, shared: Cluster) -> None:
    files = {"web.yaml": deployment("web")}
    result = launch(conftest("web"), JUMPS, files=files, cluster=shared)
    row = Row("clock", 1, message=r"^ERROR default/web-\S+ \(web\) ended without writing",
              slug="coverage-lost", counts={"a": 12, "b": 1})  # fmt: skip
    row.check(result)
