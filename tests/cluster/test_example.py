"""The example, run as the README says, on real clusters."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import fresh
import pytest
from harness import ONE_ENGINE, ROOT, Run, Runner

TOTALS: dict[str, str] = {}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A copy of the example: its output must not land in the repository."""
    copy = tmp_path / "orders"
    shutil.copytree(ROOT / "examples" / "orders", copy, ignore=shutil.ignore_patterns(".*"))
    return copy


def test_example(runner: Runner, orders: Path) -> None:
    run = runner(orders, "--kind-coverage")
    assert run.code == 0
    assert "passed" in run.output
    assert re.search(r"^example\.com/orders/internal/store +\d+ +\d+ +\d+\.\d%$", run.output, re.M)
    assert runner.left_behind() == []
    assert not Path(runner.env["KUBECONFIG"]).exists()
    assert run.total() == go_total(orders)
    assert "100.0%" not in run.total()
    assert summary_block(run.output) == readme_block()
    # Equal under all engines: what the tests run does not depend on where they run.
    TOTALS[runner.engine.name] = run.total()
    assert len(set(TOTALS.values())) == 1, TOTALS
    assert_attributed(orders)
    raw = orders / ".kindcov" / "covdata"
    percents = go("tool", "covdata", "percent", f"-i={raw}", cwd=orders)
    for line in percents.splitlines():
        package, _, rest = line.strip().partition("coverage:")
        shown = re.search(rf"^{re.escape(package.strip())} .* (\S+%)$", run.output, re.M)
        assert shown is not None, line
        assert shown[1] == rest.split()[0], line


@ONE_ENGINE
def test_example_without_coverage_and_with_workers(runner: Runner, orders: Path) -> None:
    run = runner(orders, "-n", "2")
    assert run.code == 0
    assert "kind coverage" not in run.output
    assert not (orders / ".kindcov").exists()
    assert runner.left_behind() == []


DAEMONSET = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      tolerations: [{operator: Exists}]
      containers:
        - name: orders
          image: orders  # :latest, which implies imagePullPolicy Always
          command: [/srv/orders]
          env: [{name: GOCOVERDIR, value: /tmp/own}]
          volumeMounts: [{name: own, mountPath: /tmp/own}]
      volumes: [{name: own, emptyDir: {}}]
"""
TWO_NODES = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n"
CONFTEST = """
from pytest_kindcov import go_service
orders = go_service("./cmd/orders", manifests="daemonset.yaml", port=8080, namespace="shop")
"""


@ONE_ENGINE
def test_all_nodes_are_harvested(runner: Runner, orders: Path) -> None:
    """Two nodes, a pod with a GOCOVERDIR of its own on each, reached by a published port."""
    (orders / "daemonset.yaml").write_text(DAEMONSET)
    (orders / "conftest.py").write_text(CONFTEST)
    (orders / "kind.yaml").write_text(TWO_NODES + "- role: control-plane\n- role: worker\n")
    run = runner(
        orders,
        "--kind-coverage",
        "--kind-coverage-kind-config=kind.yaml",
        "--kind-coverage-address=host",
    )
    assert run.code in (0, 1)  # orders live in memory: with two pods a test may miss its order
    assert "2 containers, 4 files, 2 nodes" in run.output
    counters = list((orders / ".kindcov/covdata").glob("covcounters.*"))
    assert len(counters) == 2
    assert run.total() == go_total(orders)
    assert runner.left_behind() == []


@ONE_ENGINE
def test_an_instance_for_each_worker(runner: Runner, orders: Path) -> None:
    """The example's manifests name their namespace, and make it. With limits and reports."""
    conftest = orders / "conftest.py"
    text = conftest.read_text().replace("port=8080", "port=8080, per_worker=True")
    conftest.write_text(text + SEEN)
    summary = orders / "summary.md"
    env = {**runner.env, "GITHUB_STEP_SUMMARY": str(summary)}
    flags = [f"--kind-coverage-{word}" for word in LIMITS]
    reports = [f"--kind-coverage-report={kind}" for kind in ("term", "html", "markdown-append")]
    run = dataclasses.replace(runner, env=env)(
        orders, "--kind-coverage", "-n", "2", *flags, *reports
    )
    assert run.code == 1
    assert " passed" in run.output
    assert " failed" not in run.output
    assert_verdict(orders, run)
    assert summary.read_text().startswith(f"## Kind coverage: {run.total()}\n")
    assert_browsable(orders)
    assert run.output.count("orders: built in") == 1
    seen = [(orders / f"{worker}.seen").read_text().splitlines() for worker in ("gw0", "gw1")]
    assert [namespace for namespace, *_ in seen] == ["orders-gw0", "orders-gw1"]
    assert len({url for _, url, *_ in seen}) == 2
    for worker, (_, _, *labels) in zip(("gw0", "gw1"), seen, strict=True):
        assert run.output.count(f"orders ({worker}): deployed in") == 1
        assert "    pod-security.kubernetes.io/enforce: restricted" in labels
    assert "2 containers, 4 files, 1 node" in run.output
    # The same tests as in a serial run, on two instances: the same statements.
    assert run.total() == go_total(orders) == Run(0, "\n".join(readme_block())).total()
    assert_attributed(orders)
    assert runner.left_behind() == []


SEEN = """
import os
from pathlib import Path

import pytest

@pytest.fixture(scope="session", autouse=True)
def seen(orders, kind_cluster):
    namespace = kind_cluster.kubectl("get", "namespace", orders.namespace, "-o", "yaml")
    file = Path(os.environ["PYTEST_XDIST_WORKER"] + ".seen")
    file.write_text("\\n".join([orders.namespace, orders.url, namespace]))
"""


LIMITS = ("fail-under=99.5", "fail-under=80:internal/*", "warn-under=95:*.go")


def assert_verdict(orders: Path, run: Run) -> None:
    """Limits: the same words and exit code from `kindcov report`, and in JSON."""
    words = [sys.executable, "-m", "pytest_kindcov", "report", *(f"--{word}" for word in LIMITS)]
    again = subprocess.run(words, cwd=orders, capture_output=True, text=True, check=False)
    assert again.returncode == run.code == 1
    said = re.findall(r"^(?:PASS|WARN|FAIL) .*$", again.stdout, re.M)
    assert [line.split()[0] for line in said] == ["FAIL", "PASS", "WARN"]
    assert said == re.findall(r"^(?:PASS|WARN|FAIL) .*$", run.output, re.M)
    data = json.loads((orders / ".kindcov/coverage.json").read_text())
    assert data["passed"] is False
    assert [gate["text"] for gate in data["gates"]] == said
    assert f"{data['total']['percent']}%" == run.total()


def assert_browsable(orders: Path) -> None:
    """In the pages of this run a line leads to exactly the tests that run it alone."""
    idle, alone = fresh.alone()
    path = "internal/api/api.go"
    shared: dict[frozenset[str], int] = {}
    for name, line in sorted(set().union(*alone.values()) - idle):
        if name == path:
            shared.setdefault(frozenset(t for t in alone if (name, line) in alone[t]), line)
    assert len(shared) > 3
    if browser.command() is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with browser.opened() as page:
        page.open((orders / ".kindcov/html/index.html").as_uri())
        api = page.run(
            "[...document.querySelectorAll('.file a')]"
            f".find((a) => a.textContent === {path!r}).href"
        )
        for tests, line in shared.items():
            page.open(api)
            page.click(f"#L{line} > a")
            assert set(browser.texts(page, "#who li button")) == tests, line
        assert page.complaints == []


def assert_attributed(orders: Path) -> None:
    """Each test is said to run what it runs alone in a fresh process; all together are the total.

    The probes of the pod's manifest fall into the tests, and two tests ask the same paths.
    """
    idle, alone = fresh.alone()
    found = fresh.attributed(orders / ".kindcov/.coverage")
    for test, lines in alone.items():
        assert found.get(test, set()) - idle == lines, test
    covered = set()
    for line in (orders / ".kindcov/coverage.out").read_text().splitlines()[1:]:
        block, statements, count = line.split()
        if int(statements) and int(count):
            path, _, span = block.partition(":")
            first, last = (int(part.split(".")[0]) for part in span.split(","))
            covered.add((path.removeprefix("example.com/orders/"), first, last))
    every = set().union(*found.values())
    for name, first, last in covered:
        assert any((name, number) in every for number in range(first, last + 1)), (name, first)


def summary_block(output: str) -> list[str]:
    """The lines of the summary, without what differs from run to run."""
    lines = output.splitlines()
    begin = next(number for number, line in enumerate(lines) if "= kind coverage =" in line)
    end = next(number for number, line in enumerate(lines) if line.startswith("what is missing"))
    block = [line.rstrip() for line in lines[begin : end + 1]]
    return [re.sub(r"cluster kindcov-\S+ \(\w+\)", "cluster", line) for line in block if line]


def readme_block() -> list[str]:
    """What the README shows."""
    text = (ROOT / "README.md").read_text()
    return summary_block(text.partition("<!-- summary -->")[2])


def go(*args: str, cwd: Path) -> str:
    return subprocess.run(
        ["go", *args], cwd=cwd, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def go_total(repository: Path) -> str:
    answer = go("tool", "cover", f"-func={repository}/.kindcov/coverage.out", cwd=repository)
    return answer.split()[-1]
