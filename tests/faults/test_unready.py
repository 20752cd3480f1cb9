"""Pods that never will be ready: explained before their time, by the name of the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from faulttable import Row, deployment
from harness import ONE_ENGINE

if TYPE_CHECKING:
    from faulttable import Cluster, Launch, Result

Case = tuple[str, str, dict[str, object], str, str]
COREDNS = "registry.k8s.io/coredns/coredns:v1.12.1"
PAUSE = "registry.k8s.io/pause:3.10.1"
CAT = {"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1}
ABSENT = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}
ALWAYS: dict[str, object] = {
    "imagePullPolicy": "IfNotPresent",
    "readinessProbe": {"tcpSocket": {"port": 53}},
}
# Name, its image, more of its container, slug, cause and remedy.
PODS: tuple[Case, ...] = (
    ("never", "localhost/absent:1", {}, "image-never-pulled", "ErrImageNeverPull"),
    ("pull", "registry.invalid/absent:1", ALWAYS, "image-pull-failed", "registry.invalid"),
    ("probe", PAUSE, {"readinessProbe": CAT}, "probe-impossible", "cat"),
    ("secret", COREDNS, {"env": [ABSENT]}, "reference-missing", "absent"),
    ("crash", COREDNS, {**ALWAYS, "args": ["-conf", "/nowhere"]}, "crash-loop", "log: .*nowhere"),
    ("big", COREDNS, {"resources": {"requests": {"cpu": 200}}}, "pod-unschedulable", "cpu"),
)
LEVEL = {"pod-security.kubernetes.io/enforce": "restricted"}
STRICT: Case = ("strict", COREDNS, {}, "pod-security", "restricted")
ROWS = tuple(
    Row(name, 1, outcome="ERROR", message=rf"^ERROR service {name}: ", slug=slug,
        says=(says, "remedy: "))
    for name, _, _, slug, says in (*PODS, STRICT)
)  # fmt: skip


@pytest.fixture(scope="module")
def result(launch: Launch, shared: Cluster) -> Result:
    lines = ["from pytest_kindcov import go_service"]
    files, tests = {}, []
    for name, image, more, _, _ in (*PODS, STRICT):
        where = "strict" if name == "strict" else ""
        text = deployment(name, namespace=where, container={"image": image, **more})
        objects = list(yaml.safe_load_all(text))
        if where:
            objects[0]["metadata"]["labels"] = LEVEL
        files[f"{name}.yaml"] = yaml.safe_dump_all(objects)
        given = f'image="{image}", manifests="{name}.yaml", name="{name}", timeout=300'
        lines.append(f"{name} = go_service({given})")
        tests.append(f"def test_{name}({name}): pass")
    return launch("\n".join(lines), "\n".join(tests), files=files, cluster=shared)


@ONE_ENGINE
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_unready(result: Result, row: Row) -> None:
    row.check(result)
    assert "not within" not in result.output  # none took its whole time of 300 s
    (logs,) = (result.repository / ".kindcov/logs").glob("kindcov-*")
    assert f"logs/{logs.name}" in result.output
    assert "ErrImageNeverPull" in (logs / "pods.txt").read_text()
    assert "violates PodSecurity" in (logs / "events.txt").read_text()
    assert "crash" in next(logs.glob("*-control-plane/pod-logs.txt")).read_text()
