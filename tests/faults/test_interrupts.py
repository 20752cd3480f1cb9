"""Ctrl-C and SIGTERM, in every phase: what was measured is saved, and nothing is left."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from faulttable import deployment, repository
from harness import Runner
from underway import Underway

if TYPE_CHECKING:
    from collections.abc import Mapping
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
    env: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        to = "group" if self.group else "first"
        how = "n2" if "-n2" in self.args else "plain"
        return (
            f"{self.phase}-{signal.Signals(self.number).name}-{to}-{self.times}-{how}-{self.test}"
        )


SAVED = ("TOTAL", "interrupted: not all tests ran")
RAN = {"a": 1, "never": 0, "bye": 1}
SHIELDED = "the run is being ended; interrupt once more to go without its coverage"
NOTHING = ("Traceback", "INTERNALERROR", "[unexpected]", "TOTAL", "ERROR")
GIVEN_UP = ("ERROR the end of the run was interrupted [interrupted]", "its coverage is not saved")

CASES = (
    Case("building", INT, True, 1, PLAIN, never=NOTHING, env={"GOCACHE": "COLD"}),
    Case("creating", TERM, False, 1, PLAIN, own=True, never=NOTHING),
    Case("creating late", INT, True, 2, N2, own=True, never=NOTHING),
    Case("loading", TERM, False, 2, PLAIN, never=NOTHING),
    Case("deploying", INT, False, 1, N2, test="unready", never=NOTHING),
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
CORE = ("creating late", "testing", "harvesting")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The repository."""
    return repository(tmp_path / "repository", CONFTEST, TESTS, MANIFESTS)


@pytest.mark.parametrize("engine", ["podman"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interrupt(
    case: Case,
    engine: TestEngine,
    node_image: str,
    kind_bin: str,
    place: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cluster: Cluster | None = None if case.own else request.getfixturevalue("shared")
    runner = Runner.within(place.parent, engine, node_image, kind_bin)
    cold = str(tmp_path_factory.mktemp("gocache"))
    runner.env.update({name: cold if text == "COLD" else text for name, text in case.env.items()})
    run = Underway(runner, place, *case.args, "-k", f"test_{case.test}", cluster=cluster)
    try:
        run.reach(case.phase)
        for number in range(case.times):
            time.sleep(0.3 if number else 0.0)
            run.send(case.number, group=case.group)
        begin = time.monotonic()
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
    assert time.monotonic() - begin < 60
