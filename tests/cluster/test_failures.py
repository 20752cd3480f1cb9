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
COREDNS = "registry.k8s.io/coredns/coredns:v1.12.1"
PAUSE = "registry.k8s.io/pause:3.10.1"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec: {{containers: [{{name: web, image: "{image}"{container}}}]{pod}}}
"""
STRICT = """
apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: strict, namespace: strict}
spec:
  selector: {matchLabels: {app: strict}}
  template:
    metadata: {labels: {app: strict}}
    spec: {containers: [{name: web, image: "IMAGE"}]}
"""
PROBE = ", readinessProbe: {exec: {command: [cat, /ready]}, periodSeconds: 1}"
PORT = ", readinessProbe: {tcpSocket: {port: 53}}"
SECRET = ", env: [{name: A, valueFrom: {secretKeyRef: {name: absent, key: k}}}]"
# Name, image, more of the container, more of the pod, and the slug of the error.
PODS = (
    ("never", "localhost/absent:1", ", imagePullPolicy: Never", "", "image-never-pulled"),
    ("pull", "registry.invalid/absent:1", "", "", "image-pull-failed"),
    ("probe", PAUSE, PROBE, "", "probe-impossible"),
    ("secret", COREDNS, SECRET, "", "reference-missing"),
    ("crash", COREDNS, ", args: [-conf, /nowhere]" + PORT, "", "crash-loop"),
    ("big", COREDNS, ", resources: {requests: {cpu: 200}}", "", "pod-unschedulable"),
)


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


@ONE_ENGINE
def test_pods_that_never_will_be_ready(runner: Runner, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    conftest = ["from pytest_kindcov import go_service"]
    tests = []
    names = [*(name for name, *_ in PODS), "strict"]
    for name, image, container, pod, _ in PODS:
        text = POD.format(name=name, image=image, container=container, pod=pod)
        (repository / f"{name}.yaml").write_text(text)
    (repository / "strict.yaml").write_text(STRICT.replace("IMAGE", COREDNS))
    for name in names:
        image = {each[0]: each[1] for each in PODS}.get(name, COREDNS)
        conftest.append(
            f'{name} = go_service(image="{image}", manifests="{name}.yaml", name="{name}",'
            " timeout=300)"
        )
        tests.append(f"def test_{name}({name}): pass")
    (repository / "conftest.py").write_text("\n".join(conftest))
    (repository / "test_it.py").write_text("\n".join(tests))
    run = runner(repository)
    assert run.code == 1
    assert f"{len(names)} errors" in run.output
    for name, *_, slug in PODS:
        assert re.search(rf"ERROR service {name}: .*\[{slug}\]", run.output), (name, slug)
    assert re.search(r"ERROR service strict: .*\[pod-security\]", run.output)
    assert "log: " in run.output
    # None took its whole time of 300 s.
    assert "not within" not in run.output
    logs = logs_of(repository, run)
    assert "ErrImageNeverPull" in (logs / "pods.txt").read_text()
    assert "violates PodSecurity" in (logs / "events.txt").read_text()
    assert "crash" in next(logs.glob("*-control-plane/pod-logs.txt")).read_text()
    assert runner.left_behind() == []
