"""Ways to run a suite: the cluster is made once if a selected test needs it, and ended once.

The owner makes no cluster here, but notes what it was asked.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
from types import SimpleNamespace

from pytest_kindcov import GoService, go_service
from pytest_kindcov.service.deploy import Deployed
from pytest_kindcov.session.provision import Provision

orders = go_service("./cmd/orders")


def note(text):
    with open({log!r}, "a") as log:
        log.write(text + chr(10))


class Provider:
    def provide(self, spec):
        note(f"service {{spec.title}}")
        service = GoService(spec.title, "shop", "node", 1)
        return service, Deployed(spec.title, "i", "", (), frozenset(), frozenset())


class Fake:
    _provider = Provider()

    def _make_cluster(self):
        note("cluster")
        self.cluster = SimpleNamespace(
            name="none", path="", kubeconfig_path="", kind_path="", kubectl_path="", ledger=None,
            engine=SimpleNamespace(name="podman", nodes=lambda _: []), whole=True, created=True,
            delete=lambda: note("deleted"),
        )
        return self.cluster

    def _wait_node_ready(self):
        pass


for name in ("_provider", "_make_cluster", "_wait_node_ready"):
    setattr(Provision, name, Fake.__dict__[name])
"""
SUITE = """
import pytest

def test_alone():
    pass

@pytest.mark.xdist_group("a")
@pytest.mark.parametrize("number", range(3))
def test_with_service(orders, number):
    assert orders.namespace == "shop"

class TestCluster:
    def test_cluster(self, kind_cluster):
        assert kind_cluster.name == "none"

    def test_fails(self, orders):
        assert not orders.name
"""
BOTH = pytest.mark.parametrize("mode", [[], ["-n", "2"]], ids=["plain", "n2"])
ALL = ["cluster", "service orders", "deleted"]


@pytest.fixture
def log(pytester: pytest.Pytester) -> Path:
    path = pytester.path / "log"
    pytester.makeconftest(CONFTEST.format(log=str(path)))
    pytester.makepyfile(SUITE)
    return path


def noted(log: Path) -> list[str]:
    """What the owner was asked; cluster and services are under way at the same time."""
    *begun, last = log.read_text().splitlines() if log.exists() else [""]
    return [*sorted(begun), *filter(None, [last])]


@pytest.mark.parametrize("dist", ["load", "loadscope", "loadfile", "loadgroup", "worksteal", "no"])
def test_distributions(pytester: pytest.Pytester, log: Path, dist: str) -> None:
    result = pytester.runpytest_subprocess("-n", "2", "--dist", dist)
    result.assert_outcomes(passed=5, failed=1)
    assert noted(log) == ALL


def test_plain(pytester: pytest.Pytester, log: Path, mode: list[str]) -> None:
    pytester.runpytest_subprocess(*mode).assert_outcomes(passed=5, failed=1)
    assert noted(log) == ALL


def test_each_is_refused(pytester: pytest.Pytester, log: Path) -> None:
    """Each worker would run all tests: they would count twice."""
    args = ("--dist", "each", "--tx", "2*popen")
    result = pytester.runpytest_subprocess("--kind-coverage", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*kindcov: --dist=each runs each test in each worker*"])
    assert noted(log) == []
    # Without coverage it is nobody's business.
    pytester.runpytest_subprocess("-k", "alone", *args).assert_outcomes(passed=2)


@pytest.mark.parametrize("args", [["-x"], ["--maxfail=1"], ["-x", "-n", "2"]], ids=" ".join)
def test_stopped_by_a_failure(pytester: pytest.Pytester, log: Path, args: list[str]) -> None:
    pytester.makepyfile(test_a="def test_first(orders): assert 0", test_b=SUITE)
    result = pytester.runpytest_subprocess(*args, "test_a.py", "test_b.py")
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert noted(log) == ALL


def test_last_failed(pytester: pytest.Pytester, log: Path) -> None:
    pytester.makepyfile("def test_alone(): assert 0\n\ndef test_other(orders): pass")
    pytester.runpytest_subprocess()
    assert noted(log) == ALL
    log.unlink()
    pytester.runpytest_subprocess("--lf").assert_outcomes(failed=1)
    assert noted(log) == []


@pytest.mark.parametrize("flag", ["--collect-only", "--setup-plan"])
def test_nothing_is_made_where_nothing_runs(
    pytester: pytest.Pytester, log: Path, flag: str
) -> None:
    assert pytester.runpytest_subprocess(flag, "--kind-coverage").ret == 0
    assert noted(log) == []


def test_collection_errors(pytester: pytest.Pytester, log: Path) -> None:
    """No test runs: no cluster is made."""
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    assert pytester.runpytest_subprocess().ret == pytest.ExitCode.INTERRUPTED
    assert noted(log) == []


@pytest.mark.parametrize("args", [["--continue-on-collection-errors"], ["-n", "2"]], ids=str)
def test_tests_that_run_in_spite_of_collection_errors(
    pytester: pytest.Pytester, log: Path, args: list[str]
) -> None:
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    pytester.runpytest_subprocess(*args).assert_outcomes(passed=5, failed=1, errors=1)
    assert noted(log) == ALL


def test_crashed_worker_is_replaced(pytester: pytest.Pytester, log: Path) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test(orders, number):
            if number == 2:
                os._exit(1)
        """
    )
    result = pytester.runpytest_subprocess("-n", "2", "-v")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw?' crashed while running *"])
    assert noted(log) == ALL


@BOTH
def test_reruns(pytester: pytest.Pytester, log: Path, mode: list[str]) -> None:
    pytester.makepyfile(
        """
        import pathlib

        def test_second_time(orders):
            before = pathlib.Path("once")
            was = before.exists()
            before.touch()
            assert was
        """
    )
    result = pytester.runpytest_subprocess("--reruns", "2", *mode)
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert noted(log) == ALL


@BOTH
def test_service_that_is_asked_for_late(
    pytester: pytest.Pytester, log: Path, mode: list[str]
) -> None:
    """By getfixturevalue: no name of a test said it before."""
    pytester.makepyfile("def test(request): request.getfixturevalue('orders')")
    pytester.runpytest_subprocess(*mode).assert_outcomes(passed=1)
    assert noted(log) == ALL


@BOTH
def test_fixture_that_needs_the_service(
    pytester: pytest.Pytester, log: Path, mode: list[str]
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def data(orders):
            pass

        def test():
            pass
        """
    )
    pytester.runpytest_subprocess("-k", "nothing", *mode)
    assert noted(log) == []
    pytester.runpytest_subprocess(*mode).assert_outcomes(passed=1)
    assert noted(log) == ALL


@BOTH
def test_go_suite(pytester: pytest.Pytester, log: Path, mode: list[str]) -> None:
    """A Go test needs the cluster and the services as a test that names them."""
    if shutil.which("go") is None:
        pytest.skip("Go is missing")
    suite = pytester.path / "suite"
    suite.mkdir()
    (suite / "go.mod").write_text("module example.com/suite\n\ngo 1.23\n")
    (suite / "x_test.go").write_text(
        'package suite\n\nimport "testing"\n\nfunc TestGo(t *testing.T) {}\n'
    )
    pytester.makepyfile("def test_alone(): pass")
    pytester.makeini("[pytest]\nkindcov_go_suites = suite\n")
    pytester.runpytest_subprocess("-k", "alone", ".", *mode)
    assert noted(log) == []
    pytester.runpytest_subprocess("-k", "TestGo", ".", *mode).assert_outcomes(
        passed=1, deselected=0 if "-n" in mode else 1
    )
    assert noted(log) == ALL
