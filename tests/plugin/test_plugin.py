"""The plugin in pytest runs without a cluster: options, roles, errors, and no cost where unused."""

from __future__ import annotations

import re

import pytest

SUITE = """
def test_without_cluster():
    pass

def test_with_cluster(kind_cluster):
    pass

def test_with_service(orders):
    pass
"""
CONFTEST = """
from pytest_kindcov import go_service
orders = go_service("./cmd/orders", manifests="deploy/", port=8080)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite on a machine without any engine."""
    monkeypatch.setenv("PATH", str(pytester.mkdir("bin")))
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))
    pytester.makepyfile(SUITE)
    pytester.makeconftest(CONFTEST)
    return pytester


def test_unused_costs_nothing(pytester: pytest.Pytester, mode: list[str]) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_imports():
            heavy = {"kubernetes", "python_on_whales", "numpy", "pytest_kindcov.cluster.kind"}
            assert not heavy & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess(*mode)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("kindcov:*")
    assert not list(pytester.path.glob(".kindcov*"))


def test_collect_only_starts_nothing(suite: pytest.Pytester, mode: list[str]) -> None:
    result = suite.runpytest_subprocess("--collect-only", "--kind-coverage", *mode[:2])
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*kind coverage*")


def test_deselected_tests_start_nothing(suite: pytest.Pytester, mode: list[str]) -> None:
    result = suite.runpytest_subprocess("-k", "without", "--kind-coverage", *mode)
    result.assert_outcomes(passed=1, deselected=0 if "-n" in mode else 2)
    result.stdout.no_fnmatch_line("*kind coverage*")


def test_missing_engine_is_one_clear_error(suite: pytest.Pytester, mode: list[str]) -> None:
    (suite.path / "cmd/orders").mkdir(parents=True)
    (suite.path / "deploy").mkdir()
    result = suite.runpytest_subprocess(*mode)
    result.assert_outcomes(passed=1, errors=2)
    output = result.stdout.str()
    assert output.count("ERROR no container engine answers") == 1
    assert "remedy: start docker, or install podman" in output
    assert "Traceback" not in output
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not list((suite.path / "tmp").glob("kindcov*"))


def test_figures_of_an_earlier_run_are_named(suite: pytest.Pytester, mode: list[str]) -> None:
    (suite.path / ".kindcov").mkdir()
    (suite.path / ".kindcov/run.json").touch()
    result = suite.runpytest_subprocess("--kind-coverage", *mode)
    told = "nothing was harvested: the figures in .kindcov/ are of an earlier run"
    assert result.stdout.str().count(told) == 1


def test_missing_manifests_are_found_before_anything_is_paid(
    suite: pytest.Pytester, mode: list[str]
) -> None:
    (suite.path / "cmd/orders").mkdir(parents=True)
    result = suite.runpytest_subprocess("-k", "service", *mode)
    result.assert_outcomes(errors=1, deselected=0 if "-n" in mode else 2)
    result.stdout.fnmatch_lines(["*service orders: deploy/ does not exist*", "*looked in*"])


@pytest.mark.parametrize(
    ("args", "env", "ini", "shown"),
    [
        (["--kind-coverage"], {}, "", "coverage=on (from --kind-coverage)"),
        ([], {"E2E_COVERAGE": "true"}, "", "coverage=on (from env E2E_COVERAGE)"),
        ([], {"E2E_COVERAGE": "false"}, "kindcov_coverage = true", "coverage=off (from env E2E_"),
        ([], {}, "kindcov_coverage = true", "coverage=on (from ini kindcov_coverage)"),
        (["--no-kind-coverage"], {"E2E_COVERAGE": "true"}, "", "coverage=off (from --no-kind-"),
        ([], {"KINDCOV_ENGINE": "podman"}, "kindcov_engine = docker", "engine=podman (from env"),
        (["--kind-coverage-engine=docker"], {"KINDCOV_ENGINE": "podman"}, "", "engine=docker (fr"),
    ],
)
def test_precedence(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    env: dict[str, str],
    ini: str,
    shown: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    pytester.makeini(f"[pytest]\n{ini}\n")
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest_subprocess(*args)
    header = re.findall("^kindcov: .*", result.stdout.str(), re.MULTILINE)
    assert shown in header[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kind-coverage-engine=lxc"], "--kind-coverage-engine: 'lxc': is none of"),
        (["--kind-coverage-timeout=-1"], "is not a number of seconds"),
        (["--kind-coverage-timeout=soon"], "could not convert"),
    ],
)
def test_bad_values_are_usage_errors(
    pytester: pytest.Pytester, args: list[str], message: str
) -> None:
    result = pytester.runpytest_subprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_our_kind_cluster_wins(pytester: pytest.Pytester, mode: list[str]) -> None:
    pytester.makepyfile("def test(kind_cluster): pass")
    result = pytester.runpytest_subprocess("--fixtures-per-test", "-v", *mode[:2])
    lines = [line for line in result.stdout.str().splitlines() if line.startswith("kind_cluster")]
    assert len(lines) == 1
    assert "pytest_kindcov/fixtures.py" in lines[0]


def test_conftest_fixture_of_the_user_wins_over_ours(
    suite: pytest.Pytester, mode: list[str]
) -> None:
    """A conftest that makes its own from `pytest_kind.KindCluster`, as kr8s's does."""
    suite.makeconftest(
        """
        import pytest
        from pytest_kind import KindCluster

        @pytest.fixture(scope="session")
        def kind_cluster():
            return KindCluster("mine")
        """
    )
    suite.makepyfile("def test(kind_cluster): assert kind_cluster.name == 'mine'")
    result = suite.runpytest_subprocess(*mode)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*kind coverage*")


def test_without_pytest_kind_as_plugin(pytester: pytest.Pytester) -> None:
    """Its options clash with a conftest's own `--kubeconfig`; then it is switched off."""
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--kubeconfig')")
    pytester.makepyfile("def test(): pass")
    pytester.runpytest_subprocess("-p", "no:pytest-kind").assert_outcomes(passed=1)


def test_plugin_can_be_switched_off(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(): pass")
    pytester.runpytest_subprocess("-p", "no:kindcov").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--dist=load", "--tx", "ssh=nowhere.invalid"], "is not on this machine"),
        (["--dist=each", "--tx", "2*popen"], "--dist=each runs each test in each worker"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    pytester: pytest.Pytester, args: list[str], said: str
) -> None:
    pytester.makepyfile("def test(): pass")
    result = pytester.runpytest_subprocess("--kind-coverage", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: kindcov: *{said}*"])


def test_go_service_needs_something_to_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from pytest_kindcov import go_service\nx = go_service(port=1)")
    result = pytester.runpytest_subprocess()
    assert "say a package or a dockerfile to build, or an image" in result.stderr.str()


def test_no_temporary_files_are_left(suite: pytest.Pytester) -> None:
    suite.runpytest_subprocess()
    assert not list((suite.path / "tmp").glob("kindcov*"))


POD = """
apiVersion: v1
kind: Pod
metadata: {name: orders}
spec: {containers: [{name: orders, image: orders}]}
"""


def test_missing_engine_skips_where_so_asked(suite: pytest.Pytester, mode: list[str]) -> None:
    (suite.path / "cmd/orders").mkdir(parents=True)
    (suite.path / "deploy").mkdir()
    (suite.path / "deploy/pod.yaml").write_text(POD)
    (suite.path / ".kindcov/covdata").mkdir(parents=True)
    for name in ("coverage.out", ".coverage", "mine.txt"):
        (suite.path / ".kindcov" / name).touch()
    suite.makeini("[pytest]\nkindcov_missing = skip\n")
    result = suite.runpytest_subprocess(*mode, "--kind-coverage", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == 0
    output = result.stdout.str()
    assert output.count("SKIPPED no container engine answers") == 1
    assert "[no-engine]" in output
    assert "remedy: start docker, or install podman" in output
    assert "could not be provided: no container engine answers" in output
    assert "no coverage was measured" in output
    assert "TOTAL" not in output
    # What an earlier run measured must not pass for this one's.
    assert [path.name for path in (suite.path / ".kindcov").iterdir()] == ["mine.txt"]


def test_what_is_wrong_with_the_repository_fails_all_the_same(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-k", "service", "--kind-coverage-missing=skip")
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("args", "keep"),
    [
        ([], "never"),
        (["--keep-cluster"], "always"),
        (["--kind-coverage-keep=on-failure"], "on-failure"),
        (["--keep-cluster", "--kind-coverage-keep=never"], "never"),
    ],
)
def test_options_of_pytest_kind_count(
    pytester: pytest.Pytester, args: list[str], keep: str
) -> None:
    pytester.makepyfile(
        f"""
        def test(kindcov):
            assert kindcov.settings.keep == {keep!r}
            assert kindcov.settings.node_image == "an/image:1"
            assert kindcov.settings.kind_bin == "/x/kind"
        """
    )
    theirs = ["--kind-image=an/image:1", "--kind-bin=/x/kind"]
    pytester.runpytest_subprocess(*args, *theirs).assert_outcomes(passed=1)


def test_one_name_of_a_cluster_is_enough(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--cluster-name=a", "--kind-coverage-cluster=b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cluster-name=a and --kind-coverage-cluster: b: say one*"])
