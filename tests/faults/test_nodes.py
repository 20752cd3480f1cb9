"""A node that goes away: what was read of its programs until then is in the total."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faulttable import Row, conftest, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Launch

TESTS = """
import pytest
from cluster import hit

def test_{name}(web, node):
    hit(web, "a", 5)
    {act}
"""
# After the last test, before the harvest.
LATE = """

@pytest.fixture(scope="session", autouse=True)
def late(kind_cluster):
    yield
    Node(kind_cluster).engine("stop", "--time", "20", f"{kind_cluster.name}-control-plane")
"""
NOT_STOPPED = r"^ERROR the services could not be stopped"
LOST = r"^ERROR default/web-\S+ \(web\) ended without writing its counters"
SAYS = ("cause: cannot list Pod", "remedy: what they ran until they were last read counts")


@ONE_ENGINE
def test_node_killed(launch: Launch) -> None:
    tests = TESTS.format(name="killed", act='node.engine("kill", node.name)')
    result = launch(conftest("web"), tests, files={"web.yaml": deployment("web")})
    row = Row("killed", 1, message=NOT_STOPPED, slug="services-not-stopped", says=SAYS,
              counts={"a": 5, "never": 0})  # fmt: skip
    row.check(result)
    assert "[coverage-lost]" in result.message(LOST)


@ONE_ENGINE
def test_node_stopped_before_the_harvest(launch: Launch) -> None:
    tests = TESTS.format(name="stopped", act="pass")
    result = launch(conftest("web") + LATE, tests, files={"web.yaml": deployment("web")})
    row = Row("stopped", 1, message=NOT_STOPPED, slug="services-not-stopped", says=SAYS,
              counts={"a": 5, "never": 0})  # fmt: skip
    row.check(result)


@ONE_ENGINE
def test_cluster_deleted_by_hand(launch: Launch) -> None:
    tests = TESTS.format(name="deleted", act='node.engine("rm", "-f", "-v", node.name)')
    result = launch(conftest("web"), tests, files={"web.yaml": deployment("web")})
    row = Row("deleted", 1, message=NOT_STOPPED, slug="services-not-stopped", says=SAYS,
              counts={"a": 5, "never": 0})  # fmt: skip
    row.check(result)
    assert "[coverage-lost]" in result.message(LOST)
    assert "[node-not-readable]" in result.message(r"^ERROR the coverage files of node \S+ cannot")
