"""What the recorder is told of a run's tests, fixtures and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# In place of the recorder: what it is told, one line each.
LISTEN = """
import pytest
from pytest_kindcov.session import live

def tell(text):
    with open({log!r}, "a") as file:
        file.write(text + chr(10))

class Told(live.OwnerLive):
    def enter(self, context):
        super().enter(context)
        tell(f"{{self._worker}} enter {{context}}")

    def leave(self):
        tell(f"{{self._worker}} leave {{self._recording.running.context(self._worker)}}")
        super().leave()

    def newly(self):
        return 14

live.OwnerLive = Told
"""
TESTS = """
import pytest

@pytest.fixture(scope="session")
def data():
    yield

@pytest.fixture
def item(data):
    yield

def test_a(data, item, kindcov):
    with kindcov.context("checkout"):
        pass

def test_b(item):
    pass
"""


@pytest.fixture
def told(pytester: pytest.Pytester) -> Path:
    log = pytester.path / "told"
    pytester.makepyfile(listen=LISTEN.format(log=str(log)), test_x=TESTS)
    pytester.syspathinsert()
    return log


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "listen", "--kind-coverage", *args, timeout=60)


def by_worker(log: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        worker, _, rest = line.partition(" ")
        found.setdefault(worker, []).append(rest)
    return found


@pytest.mark.parametrize("mode", [["-p", "no:xdist"], []], ids=["noxdist", "plain"])
def test_tests_fixtures_and_steps(pytester: pytest.Pytester, told: Path, mode: list[str]) -> None:
    run(pytester, *mode).assert_outcomes(passed=2)
    a, b = "test_x.py::test_a", "test_x.py::test_b"
    assert by_worker(told)[""] == [
        f"enter {a}",
        "enter data [setup]",
        "leave data [setup]",
        *["enter ", "leave "],  # kindcov itself: waiting
        f"enter {a}|checkout",
        f"leave {a}|checkout",
        f"leave {a}",
        f"enter {b}",
        "enter data [teardown]",
        "leave data [teardown]",
        f"leave {b}",
    ]


def test_workers_tell_the_controller(pytester: pytest.Pytester, told: Path) -> None:
    run(pytester, "-n", "2", "--dist", "load").assert_outcomes(passed=2)
    lines = by_worker(told)
    assert set(lines) == {"gw0", "gw1"}
    assert sorted(line for told in lines.values() for line in told if "::test_b" in line) == [
        "enter test_x.py::test_b",
        "leave test_x.py::test_b",
    ]


def test_long_paths_of_sockets(
    pytester: pytest.Pytester, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = pytester.path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(deep))
    run(pytester, "-n", "2").assert_outcomes(passed=2)
    assert "gw0" in by_worker(told)


def test_failing_fixtures_leave_what_they_entered(pytester: pytest.Pytester, told: Path) -> None:
    pytester.makepyfile(
        test_x="""
        import pytest

        @pytest.fixture(scope="module")
        def bad():
            raise RuntimeError

        def test_a(bad):
            pass

        def test_b():
            pass
        """
    )
    run(pytester).assert_outcomes(errors=1, passed=1)
    depth = 0
    for line in by_worker(told)[""]:
        if line.startswith("enter test_x"):
            assert depth == 0
        depth += 1 if line.startswith("enter") else -1
    assert depth == 0


@pytest.mark.parametrize("mode", [[], ["-n", "2"]], ids=["plain", "n2"])
def test_each_line_shows_what_it_newly_ran(
    pytester: pytest.Pytester, told: Path, mode: list[str]
) -> None:
    result = run(pytester, "-v", *mode)
    result.stdout.fnmatch_lines(["*test_a*+14 stmts*"] if not mode else ["*+14 stmts*test_a*"])
    assert result.stdout.str().count("+14 stmts") == 2


def test_off_by_option(pytester: pytest.Pytester, told: Path) -> None:
    run(pytester, "--kind-coverage-context=none").assert_outcomes(passed=2)
    assert not told.exists()


def test_nothing_is_told_without_coverage(pytester: pytest.Pytester, told: Path) -> None:
    result = pytester.runpytest_subprocess("-p", "listen")
    result.assert_outcomes(passed=2)
    assert not told.exists()
