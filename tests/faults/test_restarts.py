"""Parts of the node that are restarted while tests run, and just before the harvest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment
from harness import DOCKER, ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch, Result

# The API server last of all: it is not there when the harvest begins.
TESTS = """
from cluster import get, hit

def test_kubelet(kubelet, node):
    hit(kubelet, "a", 3, seen=False)
    node.run("systemctl", "restart", "kubelet")
    hit(kubelet, "a", 2, seen=False)

def test_containerd(containerd, node):
    hit(containerd, "b", 3, seen=False)
    node.run("systemctl", "restart", "containerd")
    hit(containerd, "b", 2, seen=False)

def test_apiserver(apiserver, node):
    hit(apiserver, "c", 3, seen=False)
    node.run("bash", "-c", "kill -KILL $(pidof kube-apiserver)")
    hit(apiserver, "c", 2, seen=False)
"""
ROWS = (
    Row("kubelet", counts={"a": 5, "never": 0}),
    Row("containerd", counts={"b": 5}),
    Row("apiserver", counts={"c": 5}),
)


@pytest.fixture(scope="module")
def result(launch: Launch, shared: Cluster) -> Result:
    names = [row.fault for row in ROWS]
    files = {f"{name}.yaml": deployment(name) for name in names}
    return launch(conftest(*names), TESTS, files=files, cluster=shared)


@ONE_ENGINE
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_restarts(result: Result, row: Row) -> None:
    row.check(result)
    assert "WARNING" not in result.output


@DOCKER
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_restarts_under_docker(result: Result, row: Row) -> None:
    row.check(result)
