"""The example with a Ginkgo suite: specs as tests, each with what it ran of the service."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from fresh import ORDERS, attributed, lines
from gocover import Go
from harness import ONE_ENGINE, ROOT, Runner

from pytest_kindcov.gotests import Case, Package

if TYPE_CHECKING:
    from pathlib import Path


@ONE_ENGINE
def test_ginkgo_suite(runner: Runner, tmp_path: Path) -> None:
    for name in ("orders", "ginkgo"):
        shutil.copytree(
            ROOT / "examples" / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns(".kindcov", "__pycache__"),
        )
    repository = tmp_path / "ginkgo"
    run = runner(repository, "--kind-coverage", "-v")
    assert run.code == 0
    assert "24 passed, 2 skipped" in run.output
    assert runner.left_behind() == []
    # Go's own tool, on the files as they were taken off the node.
    rows = Go().func(repository / ".kindcov/covdata")
    assert [f"{percent}%" for place, _, percent in rows if place == "total"] == [run.total()]
    found = attributed(repository / ".kindcov/.coverage")
    ran = {
        context.partition("::")[2]: {
            (re.sub(r"^.*?(cmd|internal)/", r"\1/", file), number) for file, number in places
        }
        for context, places in found.items()
        if "::" in context
    }
    package = Package(repository / "suite", (), tmp_path / "scratch")
    program = Go().build(ORDERS, tmp_path / "program", "-covermode=atomic", package="./cmd/orders")
    idle = lines(program, tmp_path / "idle", lambda _: None)
    for number, case in enumerate(case for case in package.cases() if not case.group):

        def act(port: int, case: Case = case) -> None:
            package.run([case], {"KINDCOV_ORDERS_URL": f"http://127.0.0.1:{port}"}, 60)

        alone = lines(program, tmp_path / str(number), act) - idle
        found_alone = ran.get(case.name, set()) - idle
        # It asks just what the kubelet's probe asks: where one was due and comes a moment later,
        # nothing tells its request from that probe.
        if case.name != "The service is alive" or found_alone:
            assert found_alone == alone, case.name

    # One spec, chosen by its label, on the same suite.
    listed = runner(repository, "--collect-only", "-q", "-m", "conflict")
    assert "1/26 tests collected" in listed.output
