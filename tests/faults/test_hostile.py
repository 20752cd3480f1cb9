"""What a hostile pod may write where its coverage belongs costs nobody anything but itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch, Result

# The line that each of them runs, three times.
LINES = {
    "overwritten": "a",
    "truncated": "b",
    "garbage": "c",
    "names": "d",
    "links": "e",
    "special": "f",
    "big": "g",
    "many": "h",
}
TESTS = """
import pytest
from cluster import get, hit

{}

def test_honest(honest):
    hit(honest, "killed", 7, seen=False)
"""
TEST = """
def test_{name}({name}):
    get({name}, "junk/{name}")
    hit({name}, "{line}", 3, seen=False)
"""


def skipped(name: str, why: str) -> str:
    return rf"^WARNING default/{name}-\S+ \({name}\): {why}"


# What is damaged is named by its file; what is no coverage file at all is nobody's concern.
ROWS = (
    Row("honest", counts={"killed": 7, "never": 0}),
    Row("overwritten", counts={"a": 3}),
    Row("truncated", counts={"b": 3}),
    Row("garbage", counts={"c": 3}),
    Row("names", counts={"d": 3}),
    Row("links", message=skipped("links", "covmeta.f+ is not a coverage file"), counts={"e": 3}),
    Row("special", message=skipped("special", "covmeta.f+ is not a cov"), counts={"f": 3}),
    Row("big", message=skipped("big", "covmeta.f+ is not a coverage file"), counts={"g": 3}),
    Row("many", message=skipped("many", "files skipped, more than is plausible"), counts={"h": 3}),
)


@pytest.fixture(scope="module")
def result(launch: Launch, shared: Cluster) -> Result:
    # As root, who may make device nodes.
    root = {"securityContext": {"runAsUser": 0}}
    names = [*LINES, "honest"]
    files = {f"{name}.yaml": deployment(name, container=root) for name in names}
    tests = [TEST.format(name=name, line=line) for name, line in LINES.items()]
    return launch(conftest(*names), TESTS.format("".join(tests)), files=files, cluster=shared)


@ONE_ENGINE
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_hostile(result: Result, row: Row) -> None:
    row.check(result)
    assert "WARNING and 20" in result.output  # thousands of damaged files are not listed
    assert "Traceback" not in result.output
