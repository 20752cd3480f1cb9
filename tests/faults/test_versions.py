"""Two builds of one service in one run, a rollout from one to the other, and what may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch, Result

SECOND = """
two = go_service(".", name="two", manifests="two.yaml", image="two:dev", port=8080,
                 build_flags=["-tags=two"])
"""
TESTS = """
from cluster import get, hit, restarted, until

def test_builds(one, two):
    assert get(one, "hit/a") == "one"
    assert get(two, "hit/a") == "two"

def test_rollout(one, two, node):
    hit(one, "rolled", 3, seen=False)
    node.kubectl("set", "image", "deployment/one", "one=two:dev")
    node.kubectl("rollout", "status", "deployment/one", "--timeout=60s")
    until(lambda: get(one, "which/build", tries=50) == "two")  # kube-proxy comes after the rollout
    hit(one, "rolled", 4, seen=False)

def test_allowed(allowed, node):
    hit(allowed, "b", 2)
    node.kill("allowed")
    node.wait("allowed", restarted)
"""
ROWS = (
    Row("builds", message=r"^WARNING package example.com/faults: 2 builds of different source",
        counts={"a": 2, "never": 0}),
    Row("rollout", counts={"rolled": 7}),
    Row("allowed", message=r"^default/allowed-\S+ \(allowed\) ended .*137.*; allowed$",
        counts={"b": 2}),
)  # fmt: skip


@pytest.fixture(scope="module")
def result(launch: Launch, shared: Cluster) -> Result:
    files = {f"{name}.yaml": deployment(name) for name in ("one", "two", "allowed")}
    allow = ("-o", "kindcov_allow=killed:default/allowed-*")
    return launch(conftest("one", "allowed") + SECOND, TESTS, *allow, files=files, cluster=shared)


@ONE_ENGINE
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_versions(result: Result, row: Row) -> None:
    row.check(result)
