"""Go test packages: what is listed is what runs, and it ends as Go and Ginkgo themselves say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gocover import Go

from pytest_kindcov.errors import SuiteError
from pytest_kindcov.gotests import Package

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TESTS = """package web

import (
	"os"
	"testing"
)

func TestPasses(t *testing.T) {}

func TestFails(t *testing.T) {
	t.Run("inner", func(t *testing.T) { t.Error("no such luck") })
}

func TestSkips(t *testing.T) { t.Skip("not today") }

func TestPanics(t *testing.T) { panic("asked to") }

func TestEnvironment(t *testing.T) {
	if os.Getenv("SERVICE") != "here" || os.Getenv("GOCOVERDIR") != "" {
		t.Fatal(os.Environ())
	}
}

func helper() {}
"""


@pytest.fixture
def plain(tmp_path: Path) -> Package:
    directory = tmp_path / "web"
    directory.mkdir()
    (directory / "go.mod").write_text("module example.com/web\n\ngo 1.21\n")
    (directory / "web_test.go").write_text(TESTS)
    return Package(directory, (), tmp_path / "scratch")


def test_plain_go_tests(plain: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-cover -buildvcs=false")
    monkeypatch.setenv("GOCOVERDIR", "/nonexistent")
    cases = {case.name: case for case in plain.cases()}
    assert list(cases) == ["TestPasses", "TestFails", "TestSkips", "TestPanics", "TestEnvironment"]
    assert cases["TestFails"].line == 10
    results = {
        name: plain.run([case], {"SERVICE": "here"}, 60)[name] for name, case in cases.items()
    }
    assert {name: result.outcome for name, result in results.items()} == {
        "TestPasses": "passed",
        "TestFails": "failed",
        "TestSkips": "skipped",
        "TestPanics": "failed",
        "TestEnvironment": "passed",
    }
    assert "web_test.go:11: no such luck" in results["TestFails"].output
    assert results["TestSkips"].message == "not today"
    assert "panic: asked to" in results["TestPanics"].output


def test_compile_error_is_shown_whole(plain: Package) -> None:
    (plain.directory / "broken_test.go").write_text("package web\n\nvar x int = nothing\n")
    with pytest.raises(SuiteError, match="undefined: nothing"):
        plain.cases()


def test_directory_without_tests(plain: Package) -> None:
    (plain.directory / "web_test.go").unlink()
    (plain.directory / "web.go").write_text("package web\n")
    assert plain.cases() == []


def test_test_that_does_not_end(plain: Package) -> None:
    source = 'package web\n\nimport (\n\t"testing"\n\t"time"\n)\n\n'
    source += "func TestHangs(t *testing.T) { time.Sleep(time.Hour) }\n"
    (plain.directory / "web_test.go").write_text(source)
    (case,) = plain.cases()
    with pytest.raises(SuiteError, match="TestHangs"):
        plain.run([case], {}, 1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The orders service on this machine: its URL."""
    place = tmp_path_factory.mktemp("orders")
    program = Go().build(ROOT / "examples/orders", place / "orders", package="./cmd/orders")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {**os.environ, "ORDERS_ADDR": address, "GOCOVERDIR": str(place)}
    with subprocess.Popen([str(program)], env=env, stderr=subprocess.DEVNULL) as process:
        try:
            host, port = address.split(":")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if not probe.connect_ex((host, int(port))):
                        break
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            process.terminate()


def test_ginkgo_specs_end_as_ginkgo_says(service: str, tmp_path: Path) -> None:
    package = Package(ROOT / "examples/ginkgo/suite", (), tmp_path / "scratch")
    cases = package.cases()
    assert len(cases) >= 20
    assert len({case.name for case in cases}) == len(cases)
    env = {"KINDCOV_ORDERS_URL": service}
    own: dict[str, str] = {}
    for case in cases:
        if case.name not in own:
            group = [one for one in cases if one.group == case.group] if case.group else [case]
            own |= {name: found.outcome for name, found in package.run(group, env, 60).items()}
    report = tmp_path / "report.json"
    whole = [str(package.program), f"-ginkgo.json-report={report}"]
    subprocess.run(whole, env={**os.environ, **env}, check=True, cwd=package.directory)
    theirs = {}
    for spec in json.loads(report.read_text())[0]["SpecReports"]:
        if spec["LeafNodeType"] == "It":
            name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
            theirs[name] = {"pending": "skipped"}.get(spec["State"], spec["State"])
    assert own == theirs
    assert set(own.values()) == {"passed", "skipped"}
    by_name = {case.name: case for case in cases}
    assert by_name["A placed order that is cancelled cannot be paid"].labels == (
        "happy",
        "conflict",
    )
    assert {case.name.split()[-1] for case in cases if case.group} == {"begins", "on", "ends"}


def test_ginkgo_failures_say_why(tmp_path: Path) -> None:
    """Without a service the set-up of the suite fails, and with it every spec."""
    package = Package(ROOT / "examples/ginkgo/suite", (), tmp_path / "scratch")
    case = next(case for case in package.cases() if case.name == "The service is alive")
    refused = package.run([case], {"KINDCOV_ORDERS_URL": "http://127.0.0.1:1"}, 60)[case.name]
    assert refused.outcome == "failed"
    assert "connection refused" in refused.message
    assert "orders_test.go:" in refused.message
    unset = package.run([case], {"KINDCOV_ORDERS_URL": ""}, 60)[case.name]
    assert unset.outcome == "failed"
    assert "KINDCOV_ORDERS_URL names the service" in unset.message
