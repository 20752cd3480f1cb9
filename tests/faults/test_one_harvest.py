"""Workers that crash, tests that fail or are repeated: one harvest, and the total of what ran."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from faulttable import deployment, repository, run
from harness import ONE_ENGINE, Runner

if TYPE_CHECKING:
    from pathlib import Path

    from faulttable import Cluster, Launch, Result
    from harness import TestEngine

CONFTEST = """
from pytest_kindcov import go_service
web = go_service(".", name="web", manifests="web.yaml", port=8080)
"""
# Each letter is a line of the service that one test asks for.
TESTS = """
import os, pathlib, signal, time
import pytest
from cluster import get

@pytest.mark.parametrize("letter", "abcd")
def test_asks(web, letter):
    get(web, f"hit/{letter}")

def test_crashes(web):
    get(web, "hit/e")
    if "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(7)

def test_is_killed(web):
    get(web, "hit/f")
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)

def test_fails(web):
    get(web, "hit/g")
    assert pathlib.Path("repaired").exists()

def test_after(web):
    get(web, "hit/h")
"""
ALL = dict.fromkeys("abcdefgh", 1)


@dataclass(frozen=True)
class Case:
    """A way to run them, and what must come of it."""

    name: str
    args: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    counts: dict[str, int]
    """Of the lines that the tests ask for; those that are not named may have run or not."""

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("plain", ("-p", "no:xdist"), 1, ("1 failed, 7 passed",), ALL),
    # In two workers the crashed ones' tests fail, and their coverage is there all the same.
    Case("crashes", ("-n2", "--dist=worksteal"), 1, ("crashed while running", "3 failed, 5 passed"),
         ALL),
    Case("no-replacement", ("-n2", "--max-worker-restart=0", "-k", "crashes or killed"), 1,
         ("crashed while running",), {"never": 0, "a": 0}),
    Case("first-failure", ("-x", "-k", "fails or after", "-p", "no:xdist"), 1,
         ("stopping after 1 failures", "stopped early: not all tests ran"), {"g": 1, "h": 0}),
    Case("first-failure-of-workers", ("-n2", "--maxfail=1", "-k", "fails"), 2,
         ("1 failed",), {"g": 1, "a": 0}),
    Case("reruns", ("-p", "rerunfailures", "--reruns=1", "-k", "fails or after"), 1,
         ("1 failed, 1 passed", "1 rerun"), {"g": 2, "h": 1, "a": 0}),
    Case("collection-error", ("--ignore=test_faults.py", "--continue-on-collection-errors", "."), 1,
         ("1 passed, 1 error",), {"a": 1}),
)  # fmt: skip
BROKEN = {"test_broken.py": "import no_such_module\n"}
WHOLE = {"test_whole.py": "from cluster import get\n\ndef test_asks(web):\n    get(web, 'hit/a')\n"}


def of(result: Result, case: Case) -> None:
    """What must hold of every run."""
    for text in case.says:
        assert text in result.output, text
    counts = result.counts()
    assert {name: counts.get(name) for name in case.counts} == case.counts
    assert result.output.count("harvesting coverage") == 1
    assert len(set(re.findall(r"^TOTAL .* (\S+)$", result.output, re.M))) == 1
    assert "1 container, 2 files, 1 node" in result.output
    assert result.code == case.code
    assert result.left == []


@ONE_ENGINE
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_harvest(case: Case, launch: Launch, shared: Cluster) -> None:
    files = {"web.yaml": deployment("web")}
    if case.name == "collection-error":
        files |= BROKEN | WHOLE
    of(launch(CONFTEST, TESTS, *case.args, files=files, cluster=shared), case)


@ONE_ENGINE
def test_only_what_failed(
    shared: Cluster, engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path
) -> None:
    """A second run with `--lf`, of two workers, has what its one test ran, and says what it is."""
    runner = Runner.within(tmp_path, engine, node_image, kind_bin)
    files = {"web.yaml": deployment("web")}
    place = repository(tmp_path / "repository", CONFTEST, TESTS, files)
    first = run(runner, place, "-p", "cacheprovider", "-k", "fails or after", cluster=shared)
    of(first, Case("first", (), 1, ("1 failed, 1 passed",), {"g": 1, "h": 1}))
    (place / "repaired").touch()
    second = run(runner, place, "-p", "cacheprovider", "--lf", "-n2", cluster=shared)
    of(second, Case("second", (), 0, ("1 passed",), {"g": 1, "h": 0}))
