"""Disks that are full or cannot be written, on the node and here."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from faulttable import Row, conftest, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faulttable import Cluster, Launch, Result

BASE = "/var/lib/kindcov"
MOUNT = f"^on the node: {BASE}$"  # the test's own
FULL = """
from cluster import get, hit

def test_exit(early, node):
    hit(early, "a", 4)
    node.run("dd", "if=/dev/zero", "of=/var/lib/kindcov/filler", check=False)

def test_start(late, node):
    hit(late, "b", 1)
    node.kubectl("rollout", "restart", "deployment/late")
    node.kubectl("rollout", "status", "deployment/late", "--timeout=60s")
    get(late, "hit/b", tries=50)
"""
TESTS = """
from cluster import hit

def test_host(web):
    hit(web, "a", 5)
"""


@pytest.fixture(scope="module")
def full_node(launch: Launch, shared: Cluster) -> Result:
    shared.exec("mkdir", "-p", BASE)
    shared.exec("mount", "-t", "tmpfs", "-o", "size=400k,mode=0700", "tmpfs", BASE)
    try:
        files = {f"{name}.yaml": deployment(name) for name in ("early", "late")}
        return launch(conftest("early", "late"), FULL, files=files, cluster=shared)
    finally:
        shared.exec("umount", BASE)
        shared.exec("rmdir", BASE)


NODE_ROWS = (
    Row(
        "exit",
        1,
        message=r"^ERROR default/early-\S+ \(early\) ended without writing .*exit code 0",
        slug="coverage-lost",
        says=("last read at", "remedy: "),
        counts={"a": 4},
        left=(MOUNT,),
    ),
    Row(
        "start",
        1,
        message=r"^ERROR the disk of node \S+ is full",
        slug="disk-full",
        says=("cause: /var/lib/kindcov", "remedy: make room"),
        counts={"b": 1},
        left=(MOUNT,),
    ),
)


@ONE_ENGINE
@pytest.mark.parametrize("row", NODE_ROWS, ids=str)
def test_node_is_full(full_node: Result, row: Row) -> None:
    row.check(full_node)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"small{len(mounted)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@ONE_ENGINE
def test_directory_is_full(launch: Launch, shared: Cluster, small: Callable[[str], Path]) -> None:
    place = small("size=12k")
    result = launch(
        conftest("web"),
        TESTS,
        f"--kind-coverage-dir={place}",
        files={"web.yaml": deployment("web")},
        cluster=shared,
    )
    row = Row("host", 1, message=r"^ERROR \S+/small0 cannot be written", slug="disk-full",
              says=("No space left", "remedy: .*coverage is in .*: kindcov report"),
              left=("kindcov-saved-",))  # fmt: skip
    row.check(result)


@ONE_ENGINE
def test_directory_cannot_be_written(
    launch: Launch, shared: Cluster, small: Callable[[str], Path]
) -> None:
    place = small("ro")
    result = launch(
        conftest("web"),
        TESTS,
        f"--kind-coverage-dir={place}",
        files={"web.yaml": deployment("web")},
        cluster=shared,
    )
    row = Row("host", 1, outcome="ERROR", message=r"^ERROR \S+/small0 cannot be written",
              slug="directory-not-writable", says=("remedy: .*--kind-coverage-dir",))  # fmt: skip
    row.check(result)


@ONE_ENGINE
def test_room_for_temporary_files_is_full(
    launch: Launch, shared: Cluster, small: Callable[[str], Path]
) -> None:
    """The program of the service does not fit."""
    place = small("size=2m")
    result = launch(
        conftest("web"),
        TESTS,
        files={"web.yaml": deployment("web")},
        cluster=shared,
        env={"TMPDIR": str(place), "GOTMPDIR": "/tmp"},
    )
    row = Row("host", 1, outcome="ERROR", message=r"(?i)no space left", slug="disk-full",
              says=("remedy: ",))  # fmt: skip
    row.check(result)
    assert not list(place.iterdir())
