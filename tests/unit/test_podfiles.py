"""Where nodes cannot be reached: workloads that are changed, and the files that their pods give."""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.errors import ClusterError, DeployError
from pytest_kindcov.harvest.podfiles import PodFiles
from pytest_kindcov.harvest.stop import Ends
from pytest_kindcov.harvest.verdict import Kind, judge
from pytest_kindcov.service import manifests, patching
from pytest_kindcov.service.manifests import Manifests
from pytest_kindcov.service.spec import ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

META = f"covmeta.{'a' * 32}"
COUNTERS = f"covcounters.{'a' * 32}.1.2"
SPEC = ServiceSpec("/", "./cmd/web", port=8080)


# What is changed.


def test_workload_that_is_changed() -> None:
    """What PodSecurity restricted admits; other containers and objects are as they were."""
    before = Manifests(manifests.generate(SPEC, "r.example/web:1"), "r.example/web:1")
    deployment = before.objects[0]
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"].append({"name": "other", "image": "r.example/other:1"})
    pod["containers"][0]["env"] = [{"name": "GOCOVERDIR", "value": "/x"}, {"name": "A"}]
    pod["terminationGracePeriodSeconds"] = 2
    after = copy.deepcopy(before)
    patching.patch(after, SPEC, "r.example/tools:1")
    assert after.objects[1:] == before.objects[1:]
    template = after.objects[0]["spec"]["template"]
    spec = template["spec"]
    web, other = spec["containers"]
    assert other == pod["containers"][1]
    assert web["env"] == [{"name": "A"}, {"name": "GOCOVERDIR", "value": "/kindcov"}]
    assert web["volumeMounts"] == [{"name": "kindcov-0", "mountPath": "/kindcov"}]
    assert spec["volumes"] == [
        {"name": f"kindcov-{name}", "emptyDir": {}} for name in ("0", "state")
    ]
    (sidecar,) = spec["initContainers"]
    assert (sidecar["image"], sidecar["restartPolicy"]) == ("r.example/tools:1", "Always")
    assert sidecar["securityContext"]["runAsNonRoot"]
    assert spec["terminationGracePeriodSeconds"] == 15
    assert json.loads(template["metadata"]["annotations"][patching.CONTAINERS]) == ["web"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()


def test_nothing_that_can_be_changed() -> None:
    with pytest.raises(DeployError) as caught:
        patching.patch(Manifests([], "r.example/web:1"), SPEC, "r.example/tools:1")
    assert caught.value.slug == "workload-not-patchable"


# The files.


def archive(**files: bytes) -> bytes:
    """What tar writes in the sidecar; names with `__` for a slash."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


class Pods:
    """An API server with one pod, whose sidecar gives an archive."""

    def __init__(self) -> None:
        self.archive = archive()
        self.asked = 0
        self.released = False
        self.pod: dict[str, Any] | None = {
            "metadata": {
                "uid": "u",
                "namespace": "shop",
                "name": "web-1",
                "annotations": {patching.CONTAINERS: '["web", "side"]'},
            },
            "spec": {
                "nodeName": "n",
                "restartPolicy": "Always",
                "containers": [{"name": "web", "image": "web:1"}],
            },
            "status": {
                "containerStatuses": [{"name": "web", "containerID": "containerd://c1"}],
                "initContainerStatuses": [{"name": "kindcov", "state": {"running": {}}}],
            },
        }

    def list(self, *_: Any) -> list[dict[str, Any]]:
        return [self.pod] if self.pod else []

    def fetch(
        self, where: tuple[str, str, str], command: Sequence[str], *, limit: int, timeout: float
    ) -> bytes:
        assert where == ("shop", "web-1", "kindcov")
        if "tar" not in command[-1]:
            self.released = True
            return b""
        self.asked += 1
        if self.pod is None:
            raise ClusterError("it is gone", slug="exec-refused")
        return self.archive


@pytest.fixture
def pods() -> Pods:
    return Pods()


def waited(pods: Pods, what: str) -> None:
    deadline = time.monotonic() + 20
    while not getattr(pods, what) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert getattr(pods, what)


def test_files_outlive_their_pod(pods: Pods) -> None:
    """A pod is read once when it comes, and as it ends; whoever ends it."""
    found = PodFiles(pods)  # type: ignore[arg-type]
    try:
        pods.archive = archive(**{f"0__{META}": b"meta"})
        waited(pods, "asked")
        assert not pods.released
        web, side, *earlier = found.collect().containers
        assert (web.id, web.namespace, web.pod, web.name) == ("c1", "shop", "web-1", "web")
        assert web.image == "docker.io/library/web:1"
        assert web.has_meta
        assert not web.has_counters
        assert side.files == {}
        assert pods.pod is not None
        pods.pod["metadata"]["deletionTimestamp"] = "now"
        pods.archive = archive(
            state__ended=b"", **{f"0__{META}": b"meta", f"0__{COUNTERS}": b"1", f"1__{META}": b"m"}
        )
        waited(pods, "released")
        pods.pod = None
        web, side, *earlier = found.collect().containers
        assert [each.files for each in earlier] == [{}, {}]
        assert web.files == {META: b"meta", COUNTERS: b"1"}
        assert side.has_meta
    finally:
        found.close()


@pytest.mark.parametrize(("written", "lost"), [(1, True), (2, False)])
def test_an_instance_that_was_killed_is_missed(pods: Pods, written: int, lost: bool) -> None:
    """All instances of a container write into one directory: one file for two of them is a loss."""
    found = PodFiles(pods)  # type: ignore[arg-type]
    try:
        assert pods.pod is not None
        pods.pod["status"]["containerStatuses"][0]["restartCount"] = 1
        names = [f"0__{COUNTERS[:-1]}{number}" for number in range(written)]
        pods.archive = archive(
            state__ended=b"", **{f"0__{META}": b"meta"}, **dict.fromkeys(names, b"1")
        )
        before = {container.id for container in found.collect().containers}
        pods.pod = None
        after = found.collect().containers
        assert {container.id for container in after} == before
        (told,) = (each for each in after if each.name == "web, before a restart")
        assert told.has_meta == lost
        losses = judge([told], Ends(), {})
        assert [loss.kind for loss in losses] == [Kind.LOST] * lost
    finally:
        found.close()


def test_nothing_is_trusted(pods: Pods) -> None:
    """Names, numbers and kinds are the pod's own; an archive that is cut off is not the last."""
    found = PodFiles(pods)  # type: ignore[arg-type]
    try:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as tar:
            for name in (f"../{META}", f"7/{META}", f"x/{META}", "0/etc", f"0/sub/{META}"):
                tar.addfile(tarfile.TarInfo(name))
            link = tarfile.TarInfo(f"0/{META}")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        pods.archive = target.getvalue()
        collected = found.collect()
        assert [container.files for container in collected.containers] == [{}] * 4
        (problem,) = collected.problems
        assert problem == f"shop/web-1 (web): {META} is not a coverage file, skipped"
        pods.archive = archive(**{"state__ended": b"", f"0__{META}": b"x" * 2000})[:1200]
        found.collect()
        assert not pods.released
    finally:
        found.close()


@pytest.mark.parametrize("told", [None, "", "[", '"web"', "[1]", "{}"])
def test_pod_that_is_not_as_we_made_it(pods: Pods, told: str | None) -> None:
    assert pods.pod is not None
    pods.pod["metadata"]["annotations"] = {} if told is None else {patching.CONTAINERS: told}
    found = PodFiles(pods)  # type: ignore[arg-type]
    try:
        assert found.collect().containers == []
        assert not pods.asked
    finally:
        found.close()


def test_sidecar_waits_for_its_containers(tmp_path: Path) -> None:
    """A real shell: it notes when it is to end, and ends when it may."""
    (tmp_path / "state").mkdir()
    script = patching._WAIT.replace(patching.BASE, str(tmp_path))
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        try:
            ended = tmp_path / patching.ENDED
            deadline = time.monotonic() + 20
            while not ended.exists() and time.monotonic() < deadline:
                os.kill(process.pid, signal.SIGTERM) if time.monotonic() > deadline - 19.5 else None
                time.sleep(0.1)
            assert ended.exists()
            assert process.poll() is None
            (tmp_path / patching.DONE).touch()
            assert process.wait(20) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
