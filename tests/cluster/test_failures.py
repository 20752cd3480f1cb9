"""What fails on a real cluster is explained, before its time where it is final; nothing is left."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from harness import ONE_ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Run, Runner

GATE = """
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
featureGates: {NoSuchGate: true}
"""


def logs_of(repository: Path, run: Run) -> Path:
    """The directory of logs that a run wrote, and named."""
    (logs,) = [path for path in (repository / ".kindcov/logs").iterdir() if path.is_dir()]
    assert f"logs/{logs.name}" in run.output
    return logs


@ONE_ENGINE
def test_image_that_is_not_there(runner: Runner, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "test_it.py").write_text("def test_it(kind_cluster): pass\n")
    image = "localhost/kindcov-none:v1.34.0"
    run = runner(repository, "--kind-coverage", f"--kind-coverage-node-image={image}")
    assert run.code == 1
    assert "[image-not-local]" in run.output
    assert "exists in the engine's store only" in run.output
    assert run.output.count("ERROR kind could not create the cluster") == 1
    log = (logs_of(repository, run) / "kind.log").read_text()
    assert "pinging container registry localhost" in log
    assert runner.left_behind() == []


@ONE_ENGINE
def test_kubelet_that_cannot_start(runner: Runner, tmp_path: Path) -> None:
    """kubeadm alone waits for it for four minutes, and then cannot say why."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "kind.yaml").write_text(GATE)
    (repository / "test_it.py").write_text("def test_it(kind_cluster): pass\n")
    begin = time.monotonic()
    run = runner(repository, "--kind-coverage-kind-config=kind.yaml")
    assert time.monotonic() - begin < 200
    assert run.code == 1
    assert "[feature-gate-unknown]" in run.output
    assert re.search(r"node: .*kubelet.*unrecognized feature gate: NoSuchGate", run.output)
    logs = logs_of(repository, run)
    (node,) = [path for path in logs.iterdir() if path.is_dir()]
    names = {path.name for path in node.iterdir()}
    assert {"boot.log", "journal.log", "kubelet.log", "containerd.log", "state.txt"} <= names
    assert "multi-user.target" in (node / "boot.log").read_text()
    assert runner.left_behind() == []
