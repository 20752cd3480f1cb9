"""Selection in pytest: what is left out, said, and the same in all workers. No cluster is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_kindcov.covdata import counters as counterfile
from pytest_kindcov.covdata import meta as metafile
from pytest_kindcov.covdata.model import Granularity, Meta, Mode, Package
from pytest_kindcov.report import contexts, make, runfile, sources, tree

if TYPE_CHECKING:
    from pathlib import Path

np = pytest.importorskip("numpy")

MAIN = """\
package main

func main() {
	println()
}

func one() {
	println(1)
}

func two() {
	println(2)
}
"""
SUITE = """
def test_one(orders):
    pass

def test_two(orders):
    pass

def test_new(orders):
    pass

def test_without_service():
    pass
"""
CONFTEST = """
from pytest_kindcov import go_service
orders = go_service(".", port=8080)
"""


def _meta() -> Meta:
    """What the program above can cover."""
    units = np.array([[3, 13, 5, 2, 1], [7, 12, 9, 2, 1], [11, 12, 13, 2, 1]], np.uint32)
    strings = ["example.com/m/main.go", "main", "one", "two", "example.com/m", ""]
    draft = Meta(
        hash=bytes(16),
        mode=Mode.ATOMIC,
        granularity=Granularity.BLOCK,
        packages=(Package("example.com/m", "main", "example.com/m", bytes(16)),),
        package_functions=np.array([0, 3], np.int32),
        strings=strings,
        package_strings=np.array([0, 6], np.int32),
        function_units=np.arange(4, dtype=np.int32),
        function_name=np.array([1, 2, 3], np.int32),
        function_file=np.zeros(3, np.int32),
        function_literal=np.zeros(3, bool),
        units=units,
    )
    return metafile.read(metafile.write(draft))


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A repository with a record, on a machine with git and without any engine."""
    tools = pytester.mkdir("bin")
    git = shutil.which("git")
    assert git is not None
    (tools / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(tools))
    root = pytester.path
    (root / "main.go").write_text(MAIN)
    (root / "go.mod").write_text("module example.com/m\n")
    (root / ".gitignore").write_text("bin\nstd*\nrunpytest*\n")
    pytester.makepyfile(test_it=SUITE)
    pytester.makeconftest(CONFTEST)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "all"],
    ):
        subprocess.run([git, *words], cwd=root, check=True)
    own = sources.repository(root)
    left, meta = root / ".kindcov", _meta()
    (left / "covdata").mkdir(parents=True)
    (left / ".gitignore").write_text("*\n")
    (left / "covdata" / f"covmeta.{meta.hash.hex()}").write_bytes(metafile.write(meta))
    segment = counterfile.Segment(np.ones(3, np.uint32))
    (left / "covdata" / counterfile.file_name(meta.hash, 1, 1)).write_bytes(
        counterfile.write(meta, [segment])
    )
    ran = {"[startup]": [0], "test_it.py::test_one": [1], "test_it.py::test_two": [2]}
    data = contexts.write(
        left,
        own,
        {meta.hash: meta},
        [(name, {meta.hash: np.array(units, np.int32)}) for name, units in ran.items()],
    )
    tests = {name: "passed" for name in ran if "::" in name}
    tests["test_it.py::test_without_service"] = "passed"
    built, state = sources.record(own), tree.record(own.root, root)
    runfile.write(left, make.Run(recorded=built, data=data, tests=tests, tree=state))
    return pytester


def change(root: Path, old: str, new: str) -> None:
    (root / "main.go").write_text(MAIN.replace(old, new))


def test_what_a_change_cannot_affect_is_left_out(suite: pytest.Pytester, mode: list[str]) -> None:
    """Those that run have no engine to run with; the others are not even set up."""
    change(suite.path, "println(1)", "println(3)")
    result = suite.runpytest_subprocess("--kind-coverage-select=HEAD", "-v", *mode)
    result.assert_outcomes(passed=1, errors=2, deselected=0 if "-n" in mode else 1)
    output = result.stdout.str()
    assert "test_two " not in output
    assert "kindcov: since HEAD: 1 of the record's 3 tests left out" in output
    result.stdout.fnmatch_lines(
        [
            "selected 3 of 4 tests:",
            "     1  not in the record",
            "     1  ran one (main.go)",
            "     1  uses no service of this run",
            "left out 1: they passed in the recorded run, and nothing that they ran has changed",
        ]
    )


def test_nothing_to_run_is_no_failure(suite: pytest.Pytester, mode: list[str]) -> None:
    result = suite.runpytest_subprocess(
        "--kind-coverage-select=HEAD", "--kind-coverage", *mode, "test_it.py::test_one"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["selected 0 of 1 test:", "left out 1: *"])


def test_in_doubt_all_tests_run(suite: pytest.Pytester, mode: list[str]) -> None:
    change(suite.path, "println()", "println(0)")
    result = suite.runpytest_subprocess("--kind-coverage-select=HEAD", *mode)
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines(
        [
            "kindcov: all tests run:",
            "kindcov:   main.go: main changed, which ran outside of tests (?startup?)",
        ]
    )
    result.stdout.no_fnmatch_line("*left out*")


def test_what_failed_last_runs(suite: pytest.Pytester) -> None:
    failed = suite.path / ".pytest_cache/v/cache/lastfailed"
    failed.parent.mkdir(parents=True)
    failed.write_text('{"test_it.py::test_two": true}')
    result = suite.runpytest_subprocess("--kind-coverage-select=HEAD", "--collect-only", "-q")
    assert "test_it.py::test_two" in result.outlines
    assert "test_it.py::test_one" not in result.outlines


def test_the_record_stays(suite: pytest.Pytester, mode: list[str]) -> None:
    """A run that left tests out replaces nothing that the next one selects by."""
    change(suite.path, "println(1)", "println(3)")
    before = _files(suite.path / ".kindcov")
    suite.runpytest_subprocess("--kind-coverage-select=HEAD", "--kind-coverage", *mode)
    after = _files(suite.path / ".kindcov")
    assert {name: after.get(name) for name in before} == before


def _files(directory: Path) -> dict[str, bytes]:
    return {
        os.fspath(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }
