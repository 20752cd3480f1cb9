"""Ctrl-C and SIGTERM, in every phase: what was measured is saved, and nothing is left."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from faulttable import deployment, repository
from harness import DOCKER, ONE_ENGINE, Runner
from underway import Underway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from faulttable import Cluster
    from harness import TestEngine

INT, TERM = signal.SIGINT, signal.SIGTERM
PLAIN, N2 = (), ("-n2",)
MANIFESTS = {
    "web.yaml": deployment("web"),
    "lingering.yaml": deployment(
        "lingering", container={"env": [{"name": "TERM_IS", "value": "lingering"}]}
    ),
    "unready.yaml": deployment(
        "unready", container={"readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1}}
    ),
}
CONFTEST = "\n".join(
    [
        "from pytest_kindcov import go_service",
        *(
            f'{name} = go_service(".", name="{name}", manifests="{name}.yaml", port=8080)'
            for name in ("web", "lingering", "unready")
        ),
    ]
)
TESTS = """
import pathlib, time
import pytest
from cluster import get

def ask(service):
    get(service, "hit/a")
    pathlib.Path("asked").touch()
    time.sleep(120)

def test_web(web):
    ask(web)

def test_late(request):
    ask(request.getfixturevalue("web"))

def test_lingering(lingering):
    get(lingering, "hit/a")

def test_unready(unready):
    pass

@pytest.fixture
def slow_to_end():
    yield
    time.sleep(2)

def test_teardown(web, slow_to_end):
    ask(web)
"""


@dataclass(frozen=True)
class Case:
    """A signal, and what must come of it."""

    phase: str
    number: int
    group: bool
    """To the whole process group, as a terminal sends Ctrl-C; else to the first process alone."""
    times: int
    args: tuple[str, ...]
    test: str = "web"
    own: bool = False
    """In a cluster of the run's own."""
    code: int = 2
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ("Traceback", "INTERNALERROR", "[unexpected]")
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        to = "group" if self.group else "first"
        how = "n2" if "-n2" in self.args else "plain"
        return (
            f"{self.phase}-{signal.Signals(self.number).name}-{to}-{self.times}-{how}-{self.test}"
        )


SAVED = ("TOTAL", "stopped early: not all tests ran")
RAN = {"a": 1, "never": 0, "bye": 1}
SHIELDED = "the run is being ended; interrupt once more to go without its coverage"
NOTHING = ("Traceback", "INTERNALERROR", "[unexpected]", "TOTAL", "ERROR")
GIVEN_UP = ("ERROR the end of the run was interrupted [interrupted]", "its coverage is not saved")

CASES = (
    Case("building", INT, True, 1, PLAIN, never=NOTHING),
    Case("creating", TERM, False, 1, PLAIN, own=True, never=NOTHING),
    Case("creating late", INT, True, 2, N2, own=True, never=NOTHING),
    Case("loading", TERM, False, 2, PLAIN, never=NOTHING),
    Case("deploying", INT, False, 1, PLAIN, test="unready", never=NOTHING),
    Case("testing", INT, True, 1, PLAIN, says=SAVED, counts=RAN),
    Case("testing", TERM, True, 1, N2, says=SAVED, counts=RAN),
    Case("testing", INT, False, 2, N2, says=(*SAVED, SHIELDED), counts=RAN),
    Case("testing", TERM, False, 2, PLAIN, test="teardown", says=(*SAVED, SHIELDED), counts=RAN),
    # The service is asked for by a thread of the controller.
    Case("testing", TERM, False, 1, N2, test="late", says=SAVED, counts=RAN),
    Case("harvesting", INT, True, 1, N2, test="lingering", code=0, says=("TOTAL", SHIELDED),
         counts=RAN),
    Case("harvesting", TERM, False, 2, PLAIN, test="lingering", says=(SHIELDED, *GIVEN_UP),
         never=("Traceback", "INTERNALERROR", "[unexpected]", "TOTAL")),
)  # fmt: skip
CORE = [case for case in CASES if str(case).startswith(("creating-", "testing-SIGINT-group"))]


@pytest.fixture
def interrupt(
    engine: TestEngine,
    node_image: str,
    kind_bin: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Case], None]:
    """Runs a case, and looks at all that must hold of it."""

    def go(case: Case) -> None:
        cluster: Cluster | None = None if case.own else request.getfixturevalue("shared")
        where = repository(tmp_path / "repository", CONFTEST, TESTS, MANIFESTS)
        runner = Runner.within(tmp_path, engine, node_image, kind_bin)
        if case.phase == "building":  # it takes a moment with an empty cache
            runner.env["GOCACHE"] = str(tmp_path_factory.mktemp("gocache"))
        run = Underway(runner, where, *case.args, "-k", f"test_{case.test}", cluster=cluster)
        try:
            run.reach(case.phase)
            for number in range(case.times):
                time.sleep(0.3 if number else 0.0)
                run.send(case.number, group=case.group)
            result = run.wait()
        finally:
            run.kill()
        for text in case.says:
            assert text in result.output, text
        for text in case.never:
            assert text not in result.output, text
        counts = result.counts()
        assert {name: counts.get(name) for name in case.counts} == case.counts
        assert result.code == case.code
        assert result.left == []

    return go


@ONE_ENGINE
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interrupt(case: Case, interrupt: Callable[[Case], None]) -> None:
    interrupt(case)


@DOCKER
@pytest.mark.parametrize("case", CORE, ids=str)
def test_interrupt_under_docker(case: Case, interrupt: Callable[[Case], None]) -> None:
    interrupt(case)
