"""Deploys of every kind and the examples of them, on one cluster, and what is told of the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from fresh import attributed
from harness import ONE_ENGINE, ROOT, Runner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import TestEngine

NAME = f"kindcov-{os.getpid()}-deploys"
pytestmark = ONE_ENGINE


@pytest.fixture(scope="module")
def place(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """Runs pytest on a cluster that the first run makes, and that is deleted at the end."""
    if shutil.which("helm") is None:
        pytest.skip("helm is missing: run script/test")
    home = tmp_path_factory.mktemp("deploys")
    env = {
        **engine.env,
        "KINDCOV_NODE_IMAGE": node_image,
        "KINDCOV_KIND_BIN": kind_bin,
        "KUBECONFIG": str(home / "kubeconfig"),
        "XDG_STATE_HOME": str(home / "home/state"),
    }
    runner = Runner(engine, env, home)
    runner.started.append(os.getpid())
    try:
        yield runner
    finally:
        command = [kind_bin, "delete", "cluster", "--name", NAME]
        subprocess.run(command, env=env, timeout=120, check=True)
    assert [left for left in runner.left_behind() if NAME in left] == []


def run_in(place: Runner, directory: Path, *args: str) -> str:
    """A run that passed; its output."""
    options = ("--kind-coverage", "--cluster-name", NAME, "--keep-cluster", "-v", *args)
    # A command that test_exec runs in a container panics, as it should; by chance it is read first.
    options += ("--kind-coverage-allow=killed:digest*/digest-*/digest",)
    run = place(directory, *options, timeout=900)
    assert run.code == 0
    return run.output


def run_total(output: str) -> str:
    """The percentage of a run's total."""
    return next(line.split()[-1] for line in output.splitlines() if line.startswith("TOTAL"))[:-1]


def example(name: str, tmp_path: Path) -> Path:
    return shutil.copytree(
        ROOT / "examples" / name,
        tmp_path / name,
        ignore=shutil.ignore_patterns(".kindcov", "__pycache__"),
    )


def ran(repository: Path) -> dict[str, set[str]]:
    """By context, without the test's file, the text of the lines of the repository that ran."""
    found = {}
    texts: dict[str, list[str]] = {}
    for context, places in attributed(repository / ".kindcov/.coverage").items():
        lines = set()
        for file, number in places:
            for path in (repository / file, *repository.glob(f"*/{file}")):
                if path.is_file():
                    text = texts.setdefault(str(path), path.read_text().splitlines())
                    lines.add(text[number - 1].strip())
                    break
        found[context.rpartition("::")[2]] = lines
    return found


@pytest.fixture
def deploys(tmp_path: Path) -> Path:
    """A repository whose services come to the cluster in all ways."""
    programs = ROOT / "tests/programs"
    copy = shutil.copytree(programs / "deploys", tmp_path / "deploys")
    (copy / "services.py").rename(copy / "conftest.py")
    (copy / "checks.py").rename(copy / "test_deploys.py")
    for name in ("shapes", "operator"):
        shutil.copytree(programs / name, copy / name)
    (copy / "pytest.ini").write_text("[pytest]\n")
    return copy


def marks(lines: set[str]) -> set[str]:
    return {mark[1] for line in lines if (mark := re.search(r"// mark: (\w+)", line))}


def test_deploys(place: Runner, deploys: Path) -> None:
    run_in(place, deploys)
    found = {context: marks(lines) - {"ready"} for context, lines in ran(deploys).items()}
    tests = {context: done for context, done in found.items() if context.startswith("test_")}
    for context in ("test_restart", "test_scale"):  # kube-proxy may still lead to another pod
        tests[context] -= {"default"}
    # An operator works when it will; what was run by hand panicked.
    assert {context: done - {"make"} for context, done in tests.items() if done - {"make"}} == {
        "test_all_kinds": {"alpha"},
        "test_cron_job": {"job"},
        "test_made_by_an_operator": {"alpha", "beta", "bye"},
        "test_given_by_a_function": {"alpha"},
        "test_deployed_by_a_function": {"beta"},
        "test_restart": {"alpha", "bye"},
        "test_scale": {"beta", "bye"},
        "test_wait_says_what_came_last": {"default"},
    }
    assert {"init", "job"} <= found["[startup]"]


def test_workers_act_on_their_own(place: Runner, deploys: Path) -> None:
    """In xdist's workers the handle does the same, each to its own instance."""
    out = run_in(place, deploys, "-n", "2", "-k", "restart or scale or exec or function")
    assert "digest (gw0): deployed" in out
    assert "digest (gw1): deployed" in out
    found = {context: marks(lines) - {"ready"} for context, lines in ran(deploys).items()}
    assert found["test_restart"] >= {"bye", "alpha"}
    assert "hog" not in found["test_restart"]


def test_shop(place: Runner, tmp_path: Path) -> None:
    shop = example("shop", tmp_path)
    out = run_in(place, shop)
    assert re.search(r"^container shop/shop-check-\w+/inventory on .*: ok$", out, re.M)
    found = ran(shop)
    check = 'log.Printf("%d items, all well", items.Len())'
    sold_out = "serve.Error(w, http.StatusConflict, err.Error())"
    away = 'serve.Error(w, http.StatusServiceUnavailable, "come back later")'
    assert [context for context, lines in found.items() if check in lines] == ["[startup]"]
    assert [context for context, lines in found.items() if sold_out in lines] == ["test_sold_out"]
    assert away in found["test_inventory_away"]


def test_controller(place: Runner, tmp_path: Path) -> None:
    controller = example("controller", tmp_path)
    run_in(place, controller)
    found = ran(controller)
    sweep = "if err := s.sweep(ctx, now); err != nil {"
    delete = "if err := s.Delete(ctx, page); client.IgnoreNotFound(err) != nil {"
    long = 'return fmt.Sprintf("the title has %d characters, more than %d", n, longest)'
    tests = {context: lines for context, lines in found.items() if context.startswith("test_")}
    assert sweep in found["background"]
    assert [test for test, lines in tests.items() if delete in lines] == [
        "test_page_ends_by_itself"
    ]
    assert [test for test, lines in tests.items() if long in lines] == [
        "test_long_title_is_invalid"
    ]


def test_coredns(place: Runner, tmp_path: Path) -> None:
    coredns = example("coredns", tmp_path)
    out = run_in(place, coredns)
    assert re.search(r"^github\.com/coredns/coredns/plugin/file +\d+ +\d+ +\d+\.\d%$", out, re.M)
    found = attributed(coredns / ".kindcov/.coverage")
    by_plugin = {
        context.rpartition("::")[2]: {
            plugin[1] for file, _ in places if (plugin := re.search(r"/plugin/(\w+)/\w+\.go", file))
        }
        for context, places in found.items()
    }
    assert "template" in by_plugin["test_address_in_a_name"]
    assert "template" not in by_plugin["test_alias_is_followed"]
    assert "file" in by_plugin["test_alias_is_followed"]
    assert "file" not in by_plugin["test_any_is_blocked"]
    assert 0 < float(run_total(out)) < 100
