"""Clusters that stay for the next run: taken, started, replaced, and never by two runs at once."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from harness import ONE_ENGINE, Run, Runner
from web import WEB

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
from pytest_kindcov import go_service

web = go_service("./cmd/web", port=8080)
"""
TEST = """
import pathlib, urllib.request

def test_it(web, kind_cluster):
    pathlib.Path("cluster").write_text(kind_cluster.name)
    if pathlib.Path("ask").exists():
        assert urllib.request.urlopen(web.url + "/asked", timeout=60).read() == b"yes"
    assert not pathlib.Path("fail").exists()
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    (directory / "cmd/web").mkdir(parents=True)
    (directory / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (directory / "cmd/web/main.go").write_text(WEB)
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(TEST)
    return directory


def cluster_of(repository: Path) -> str:
    return (repository / "cluster").read_text()


def covered(repository: Path, line: int) -> bool:
    """Whether the block that begins in a line of main.go ran."""
    profile = (repository / ".kindcov/coverage.out").read_text()
    (count,) = re.findall(rf"main\.go:{line}\.\S+ \d+ (\d+)$", profile, re.MULTILINE)
    return int(count) > 0


def nodes(runner: Runner) -> list[str]:
    label = "label=io.x-k8s.kind.cluster"
    names = runner.engine.run("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()
    return [name for name in names if any(f"kindcov-{pid}-" in name for pid in runner.started)]


@ONE_ENGINE
def test_kept_cluster(runner: Runner, repository: Path) -> None:
    state = runner.tmp.parent / "home/state/kindcov/clusters"
    coverage = ["-p", "cacheprovider", "--kind-coverage", "--kind-coverage-keep=on-failure"]
    programs = repository / ".pytest_cache/d/kindcov"
    (repository / "fail").touch()
    (repository / "ask").touch()
    first = runner(repository, *coverage)
    assert first.code == 1
    name = cluster_of(repository)
    assert f"cluster {name} was kept (tests failed)" in first.output
    assert f"`KIND_EXPERIMENTAL_PROVIDER=podman kind delete cluster --name {name}`" in first.output
    assert f"`KIND_EXPERIMENTAL_PROVIDER=podman kind export kubeconfig --name {name}`" in (
        first.output
    )
    assert [path.name for path in state.iterdir()] == [f"{name}.podman.json"]
    assert covered(repository, 10)
    assert [path.name for path in runner.tmp.iterdir()] == []
    (program,) = programs.iterdir()
    with program.open("ab") as file:
        file.write(b"as it was")
    # It is a plain cluster now, whose service goes on without our doing.
    traces = "ls -d /var/lib/kindcov; ls /usr/local/sbin /usr/bin | grep kindcov; true"
    assert runner.engine.run("exec", f"{name}-control-plane", "sh", "-c", traces) == ""

    # It was made to be ready sooner than kind's own.
    manifest = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
    assert "--kube-api-qps=500" in runner.engine.run(
        "exec", f"{name}-control-plane", "cat", manifest
    )
    ask = "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get cm kube-proxy -o yaml"
    proxy = runner.engine.run("exec", f"{name}-control-plane", *ask.split())
    assert "minSyncPeriod: 50ms" in proxy

    # The next run takes it; its counters begin at nothing, and what did not change stays.
    (repository / "ask").unlink()
    second = runner(repository, *coverage)
    assert second.code == 1
    assert f"using cluster {name} (podman), which was kept" in second.output
    assert cluster_of(repository) == name
    assert "1 container, 2 files, 1 node" in second.output
    assert covered(repository, 18)
    assert not covered(repository, 10)
    assert program.read_bytes().endswith(b"as it was")  # nothing changed: it was not linked again

    # A stopped one is started; without coverage too.
    runner.engine.run("stop", "--time", "1", f"{name}-control-plane")
    third = runner(repository, "--kind-coverage-keep=on-failure")
    assert third.code == 1
    assert f"cluster {name} was kept, and stopped: starting it" in third.output
    assert f"cluster {name} was kept, and stopped: it was started" in third.output
    assert cluster_of(repository) == name

    # A broken one is replaced. What passes is not kept.
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    runner.engine.run("exec", f"{name}-control-plane", "mv", manifest, "/root")
    time.sleep(3)
    (repository / "fail").unlink()
    (repository / "ask").touch()
    fourth = runner(repository, *coverage)
    assert fourth.code == 0
    assert f"cluster {name} was kept, but is of no use: " in fourth.output
    assert cluster_of(repository) != name
    assert covered(repository, 10)
    assert runner.left_behind() == []


@ONE_ENGINE
def test_two_runs_at_once(runner: Runner, repository: Path) -> None:
    """They get two clusters; a third run takes one of these, with --keep-cluster of pytest-kind."""
    args = ["--keep-cluster"]
    processes = []
    for number in range(2):
        (repository / f"test_{number}.py").write_text(
            "import pathlib, time\n\ndef test(kind_cluster):\n"
            f"    pathlib.Path('cluster{number}').write_text(kind_cluster.name)\n"
            f"    other = pathlib.Path('cluster{1 - number}')\n"
            "    deadline = time.monotonic() + 200\n"
            "    while not other.exists() and time.monotonic() < deadline:\n"
            "        time.sleep(0.1)\n"
        )
        command = runner.command(*args, f"test_{number}.py")
        processes.append(subprocess.Popen(command, cwd=repository, env=runner.env))
        runner.started.append(processes[-1].pid)
    try:
        assert [process.wait(400) for process in processes] == [0, 0]
        names = {(repository / f"cluster{number}").read_text() for number in range(2)}
        assert len(names) == 2
        assert len(nodes(runner)) == 2
        third = runner(repository, *args, "test_1.py")
        assert third.code == 0
        assert (repository / "cluster1").read_text() in names
        assert "(--kind-coverage-keep=always)" in third.output
        assert len(nodes(runner)) == 2
        unlike = _with_config(runner, repository)
        for name in names:
            assert f"cluster {name} is kept, but was made with another kind config" in unlike.output
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for node in nodes(runner):
            name = node.removesuffix("-control-plane")
            kind = [runner.env["KINDCOV_KIND_BIN"], "delete", "cluster", "--name", name]
            subprocess.run(kind, env=runner.env, check=True, timeout=120)
    assert [path for path in runner.left_behind() if "home/state" not in path] == []


def _with_config(runner: Runner, repository: Path) -> Run:
    """A run with another kind config, which kind refuses: no third cluster has to be made."""
    (repository / "kind.yaml").write_text("kind: Cluster\napiVersion: kind.x-k8s.io/v0\n")
    args = ["--keep-cluster", "--kind-coverage-kind-config=kind.yaml", "test_1.py"]
    run = runner(repository, *args)
    assert run.code == 1
    assert "[kind-config-invalid]" in run.output
    return run
