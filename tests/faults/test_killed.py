"""Two runs at once, one of which is killed: the other goes on, and nothing of the dead is lost.

Its cluster is named, its coverage saved, and what it left removed, and only that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from typing import TYPE_CHECKING

from faulttable import deployment, repository, run
from harness import ONE_ENGINE, Runner, kindcov
from underway import Underway

if TYPE_CHECKING:
    from pathlib import Path

    from faulttable import Cluster
    from harness import TestEngine

CONFTEST = """
from pytest_kindcov import go_service
web = go_service(".", name="web", manifests="web.yaml", port=8080)
"""
TESTS = """
import pathlib, time
from cluster import get

def test_it(web):
    get(web, "hit/a")
    pathlib.Path("asked").touch()
    while not pathlib.Path("go on").exists():
        time.sleep(0.1)
"""
FILES = {"web.yaml": deployment("web")}
CLUSTER = "def test_cluster(kind_cluster): pass\n"


@ONE_ENGINE
def test_two_at_once_and_one_is_killed(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path, shared: Cluster
) -> None:
    runners = []
    for name in ("killed", "other"):
        (tmp_path / name).mkdir()
        runners.append(Runner.within(tmp_path / name, engine, node_image, kind_bin))
    runner, other_runner = runners
    state = tmp_path / "state"
    for each in runners:
        each.env["XDG_STATE_HOME"] = str(state)
    where = repository(tmp_path / "killed/repository", CONFTEST, TESTS, FILES)
    killed = Underway(runner, where, "-n2")
    other = Underway(
        other_runner, repository(tmp_path / "other/repository", CONFTEST, TESTS, FILES)
    )
    foreign = [f"kindcov-1-foreign{os.getpid()}", f"mine{os.getpid()}"]
    for cluster in foreign:
        label = f"io.x-k8s.kind.cluster={cluster}"
        engine.run("create", "--label", label, "--name", f"{cluster}-control-plane", node_image)
    try:
        killed.reach("testing")
        other.reach("testing")
        notes = {path: json.loads(path.read_text()) for path in state.rglob("*.json")}
        clusters = {note["pid"]: note["cluster"] for note in notes.values()}
        assert set(clusters) == {killed.process.pid, other.process.pid}
        name = clusters[killed.process.pid]
        assert_private(killed, list(notes))

        # Both live: nobody may take their coverage or their clusters.
        code, output = kindcov(runner, where, "doctor", "--remove")
        assert code == 0
        assert not any(each in output for each in clusters.values())
        code, output = kindcov(runner, where, "harvest", "--cluster", name)
        assert (code, "[cluster-in-use]" in output) == (1, True)
        assert f"process {killed.process.pid}" in output

        # What comes while the cluster is deleted changes nothing.
        (other.where / "go on").touch()
        other.reach("deleting")
        other.send(signal.SIGINT, group=True)
        whole = other.wait()
        assert (whole.code, whole.left) == (0, [])
        assert whole.counts().items() >= {"a": 1, "bye": 1, "never": 0}.items()
        assert [json.loads(path.read_text())["cluster"] for path in state.rglob("*.json")] == [name]

        killed.send(signal.SIGKILL, group=False)
        killed.process.wait()
        deadline = time.monotonic() + 20
        while ours := [each for each in runner.processes() if "conmon" not in each]:
            assert time.monotonic() < deadline, ours
            time.sleep(0.1)
        assert_rescued(runner, where, name, total(whole.output))

        # The next run names it, and leaves it alone.
        after = repository(tmp_path / "after", "", CLUSTER)
        following = run(runner, after, cluster=shared)
        assert f"found a cluster {name}" in following.output
        assert following.outcome("test_cluster") == "PASSED"

        code, output = kindcov(runner, where, "doctor", "--remove")
        assert code == 0
        assert f"removed cluster {name}" in output
        assert f"{foreign[0]} ({engine.name}): its run is not known" in output
        assert runner.left_behind() == []
        assert [path for path in state.rglob("*") if path.is_file()] == []
        listed = engine.run("ps", "-a", "--format", "{{.Names}}").split()
        assert {f"{cluster}-control-plane" for cluster in foreign} <= set(listed)
    finally:
        killed.kill()
        other.kill()
        kindcov(runner, where, "doctor", "--remove")
        engine.run("rm", "-f", "-v", *(f"{cluster}-control-plane" for cluster in foreign))


def assert_rescued(runner: Runner, where: Path, name: str, expected: str) -> None:
    """The coverage of a dead run is saved: off the node that runs, and off one that is stopped."""
    code, output = kindcov(runner, where, "doctor")
    assert code == 0
    assert f"warn  orphans: cluster {name} ({runner.engine.name}) of a run that is dead" in output
    assert "[orphan]" in output

    code, output = kindcov(runner, where, "harvest", "--cluster", name)
    assert code == 0, output
    assert "1 container" in output
    assert total(output) == expected
    saved = blocks(where / ".kindcov")
    assert not (where / ".kindcov/.coverage").exists()

    runner.engine.run("stop", "--time", "1", f"{name}-control-plane")
    code, output = kindcov(runner, where, "harvest", "--cluster", name, "--dir", "stopped")
    assert code == 0
    assert "the services could not be stopped (no node runs)" in output
    # Also of the pod that came in the place of the one that was stopped.
    assert blocks(where / "stopped") == saved


def total(output: str) -> str:
    """The TOTAL line's figures."""
    (found,) = {" ".join(line.split()) for line in re.findall(r"^TOTAL .*$", output, re.M)}
    return found


def blocks(directory: Path) -> set[str]:
    """The blocks of a text profile that ran."""
    lines = (directory / "coverage.out").read_text().splitlines()[1:]
    return {line.split()[0] for line in lines if line.split()[2] != "0"}


def assert_private(underway: Underway, notes: list[Path]) -> None:
    """Nobody else can read what a run has, or connect to it."""
    assert underway.listening() == []
    (directory,) = underway.runner.tmp.glob("kindcov-*")
    wanted = {directory: 0o700, directory / "kubeconfig": 0o600}
    wanted |= dict.fromkeys(notes, 384) | {note.parent: 0o700 for note in notes}
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in wanted} == wanted
