"""Faults of pods that leave the cluster whole: all in one run, each with a service of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment
from harness import DOCKER, ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch, Result

MANIFESTS = {
    "oom": deployment("oom", container={"resources": {"limits": {"memory": "32Mi"}}}),
    "killed": deployment("killed"),
    "panics": deployment("panics"),
    "forked": deployment("forked"),
    "deaf": deployment("deaf", container={"env": [{"name": "TERM_IS", "value": "deaf"}]}),
    "slow": deployment(
        "slow",
        container={"env": [{"name": "TERM_IS", "value": "slow"}]},
        pod={"terminationGracePeriodSeconds": 5},  # on a busy machine reading takes its time
    ),
    "deleted": deployment("deleted"),
    "scaled": deployment("scaled"),
    "vanished": deployment("vanished", namespace="vanished"),
}
TESTS = """
from cluster import break_off, get, hit, restarted

def test_oom(oom, node):
    hit(oom, "oom", 3)
    break_off(oom, "hog/")
    node.wait("oom", restarted)

def test_killed(killed, node):
    hit(killed, "killed", 4)
    node.kill("killed")
    node.wait("killed", restarted)

def test_panics(panics, node):
    hit(panics, "panics", 2)
    break_off(panics, "panic/")
    node.wait("panics", restarted)

def test_forked(forked, node):
    hit(forked, "forked", 5)
    get(forked, "child/child")
    node.kill("forked")
    node.wait("forked", restarted)

def test_deaf(deaf):
    hit(deaf, "deaf", 2, seen=False)

def test_slow(slow):
    hit(slow, "slow", 1, seen=False)

def test_deleted(deleted, node):
    hit(deleted, "deleted", 2, seen=False)
    (pod,) = node.pods("deleted")
    node.kubectl("delete", "pod", pod["metadata"]["name"])
    get(deleted, "hit/deleted", tries=50)

def test_scaled(scaled, node):
    node.run("kubectl", "scale", "deployment", "scaled", "--replicas=5")
    node.run("kubectl", "rollout", "status", "deployment", "scaled", "--timeout=60s")
    hit(scaled, "scaled", 20, seen=False)
    node.run("kubectl", "scale", "deployment", "scaled", "--replicas=1")
    node.wait("scaled", lambda pods: len(pods) == 1)
    get(scaled, "hit/scaled", tries=50)

def test_vanished(vanished, node):
    hit(vanished, "vanished", 6, seen=False)
    node.kubectl("delete", "namespace", "vanished")
"""
LOST = (
    r"cause: it was last read at \d\d:\d\d:\d\d",
    r"remedy: .*kindcov_allow = killed:default/\*",
)


def ended(name: str, how: str) -> str:
    return rf"^ERROR default/{name}-\S+ \({name}\) ended without writing its counters \({how}\)"


ROWS = (
    # Kubernetes gives the reason; where the node is a container of docker's it was "Error".
    Row("oom", 1, message=ended("oom", r"exit code 137 \((OOMKilled|Error)\)"),
        slug="coverage-lost", says=LOST, counts={"oom": 3}),
    Row("killed", 1, message=ended("killed", r"exit code 137 \(Error\)"), slug="coverage-lost",
        says=LOST, counts={"killed": 4}),
    Row("panics", 1, message=ended("panics", r"exit code 2 \(Error\)"), slug="coverage-lost",
        says=(*LOST, "its log ends with:.*panic: asked to"), counts={"panics": 2}),
    Row("forked", 1, message=ended("forked", r"exit code 137 \(Error\)"), slug="coverage-lost",
        says=LOST, counts={"forked": 5, "child": 1}),
    Row("deaf", 1, message=r"^default/deaf-\S+ \(deaf\) ended at SIGTERM without an exit file",
        says=("it has no handler",), counts={"deaf": 2}),
    Row("slow", 1, message=r"^ERROR default/slow-\S+ \(slow\) was killed at the end of its grace",
        slug="coverage-lost", says=("remedy: raise terminationGracePeriodSeconds",),
        counts={"slow": 1, "late": 1}),
    Row("deleted", 1, counts={"deleted": 3}),
    Row("scaled", 1, counts={"scaled": 21}),
    Row("vanished", 1, counts={"vanished": 6, "never": 0}),
)  # fmt: skip
CORE = ("oom", "killed", "panics", "slow", "deleted")


@pytest.fixture(scope="module")
def result(launch: Launch, shared: Cluster) -> Result:
    files = {f"{name}.yaml": text for name, text in MANIFESTS.items()}
    return launch(conftest(*MANIFESTS), TESTS, files=files, cluster=shared)


@ONE_ENGINE
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_pods(result: Result, row: Row) -> None:
    row.check(result)


@DOCKER
@pytest.mark.parametrize("row", [row for row in ROWS if row.fault in CORE], ids=str)
def test_pods_under_docker(result: Result, row: Row) -> None:
    row.check(result)
