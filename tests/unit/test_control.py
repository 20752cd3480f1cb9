"""What tests ask of a running service, on a cluster that is only played."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pytest_kindcov.cluster.execute import Executed
from pytest_kindcov.errors import ClusterError, DeployError, ManifestError
from pytest_kindcov.service.goservice import GoService

IMAGE = "docker.io/shop/web:1"


class Cluster:
    """A Deployment's pods: deleted ones end after some looks, and new ones come up."""

    def __init__(self, replicas: int = 1, kind: str = "ReplicaSet") -> None:
        self.kind = kind
        self.replicas = replicas
        self.numbers = itertools.count()
        self.pods: list[dict[str, Any]] = []
        self.said: dict[str, str] = {}
        self.broken = False
        self.executed: Any = Executed("out", "", 0)
        self.looks = 0
        self.grow()
        self.settle()

    def grow(self) -> None:
        living = [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"]]
        for pod in living[self.replicas :]:
            pod["metadata"]["deletionTimestamp"] = "now"
        for _ in range(self.replicas - len(living)):
            self.pods.append(self.pod())

    def pod(self) -> dict[str, Any]:
        number = next(self.numbers)
        owner = [{"kind": self.kind, "name": "web", "controller": True}] if self.kind else []
        metadata = {
            "name": f"web-{number}",
            "namespace": "shop",
            "uid": str(number),
            "labels": {"app": "web"},
            "ownerReferences": owner,
            "creationTimestamp": f"{number:03}",
        }
        containers = [{"name": "web", "image": "shop/web:1"}, {"name": "proxy", "image": "proxy"}]
        return {"metadata": metadata, "spec": {"containers": containers}, "status": {}}

    def settle(self) -> None:
        self.pods = [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"]]
        for pod in [] if self.broken else self.pods:
            ready = [{"type": "Ready", "status": "True"}]
            pod["status"] = {"phase": "Running", "conditions": ready}

    def list(self, _: str, kind: str, *__: Any) -> list[dict[str, Any]]:
        if kind == "Pod":
            self.looks += 1
            if self.looks % 3 == 0:
                self.settle()
            return list(self.pods)
        return []

    def delete(self, _: str, __: str, name: str, ___: str) -> None:
        for pod in self.pods:
            if pod["metadata"]["name"] == name:
                pod["metadata"]["deletionTimestamp"] = "now"
        self.grow()

    def patch(self, *args: Any) -> dict[str, Any]:
        assert args[:4] == ("apps/v1", "Deployment", "web", "shop")
        self.replicas = args[4]["spec"]["replicas"]
        self.grow()
        return {"spec": {"selector": {"matchLabels": {"app": "web"}}}}

    def logs(self, namespace: str, pod: str, container: str, **_: Any) -> str:
        return self.said.get(f"{pod}/{container}", "")

    def execute(self, *_: Any) -> Executed:
        if isinstance(self.executed, Exception):
            raise self.executed
        done: Executed = self.executed
        return done


DEPLOYMENT = (("shop", "Deployment", "web"),)


def service(cluster: Any, workloads: tuple[tuple[str, str, str], ...] = DEPLOYMENT) -> GoService:
    return GoService(
        "web", "shop", "", 0, image=IMAGE, workloads=workloads, connect=lambda: cluster
    )


def test_restart_gives_other_pods() -> None:
    cluster = Cluster(2)
    before = {pod["metadata"]["uid"] for pod in cluster.pods}
    service(cluster).restart(timeout=5)
    after = {pod["metadata"]["uid"] for pod in cluster.pods}
    assert len(after) == 2
    assert not before & after


def test_restart_of_what_does_not_come_up_says_why() -> None:
    cluster = Cluster()
    cluster.broken = True
    with pytest.raises(DeployError, match=r"pods-not-as-asked(.|\n)*pod shop/web-1: unknown"):
        service(cluster).restart(timeout=0.5)


def test_bare_pod_is_not_ended() -> None:
    cluster = Cluster(kind="")
    with pytest.raises(DeployError, match="restart-impossible"):
        service(cluster).restart()
    assert "deletionTimestamp" not in cluster.pods[0]["metadata"]


def test_pods_of_jobs_are_left_alone() -> None:
    cluster = Cluster(kind="Job")
    service(cluster).restart(timeout=1)
    assert [pod["metadata"]["uid"] for pod in cluster.pods] == ["0"]


@pytest.mark.parametrize("replicas", [0, 1, 3])
def test_scale_waits_for_just_so_many(replicas: int) -> None:
    cluster = Cluster(2)
    service(cluster).scale(replicas, timeout=5)
    assert len(cluster.pods) == replicas
    assert all(pod["status"] for pod in cluster.pods)


def test_scale_wants_one_workload() -> None:
    both = (*DEPLOYMENT, ("shop", "StatefulSet", "store"), ("shop", "Job", "seed"))
    with pytest.raises(DeployError, match=r"scale-impossible(.|\n)*Job shop/seed(.|\n)*workload="):
        service(Cluster(), both).scale(1)
    service(Cluster(), both).scale(1, workload="web", timeout=5)
    with pytest.raises(DeployError, match=r"no seed can be scaled"):
        service(Cluster(), both).scale(1, workload="seed")
    with pytest.raises(DeployError, match=r"let it be a Deployment"):
        service(Cluster(), (("shop", "DaemonSet", "web"),)).scale(1)


def test_logs_of_one_and_of_several() -> None:
    cluster = Cluster(1)
    cluster.said = {"web-0/web": "a\nb\n", "web-1/web": "c\n", "web-0/proxy": "p\n"}
    assert service(cluster).logs() == "a\nb\n"
    assert service(cluster).logs(container="proxy") == "p\n"
    cluster.replicas = 2
    cluster.grow()
    assert service(cluster).logs() == "[web-0/web] a\n[web-0/web] b\n[web-1/web] c\n"


def test_exec_says_what_went_wrong() -> None:
    cluster = Cluster()
    assert service(cluster).exec(["/web", "-v"]).stdout == "out"
    cluster.executed = Executed("", "no such flag", 2)
    with pytest.raises(DeployError, match=r"/web -v: exit code 2 \[exec-failed\](.|\n)*such flag"):
        service(cluster).exec(["/web", "-v"])
    assert service(cluster).exec(["/web", "-v"], check=False).code == 2
    cluster.executed = ClusterError("x", cause="not in the image", slug="exec-refused")
    with pytest.raises(DeployError, match=r"exec-refused(.|\n)*not in the image"):
        service(cluster).exec(["/bin/sh"])
    for pod in cluster.pods:
        pod["status"] = {}
    cluster.broken = True
    with pytest.raises(DeployError, match=r"no-pod-ready"):
        service(cluster).exec(["/web"])


def test_wait_gives_what_came_and_says_what_did_not() -> None:
    its = service(Cluster())
    answers = iter([0, "", ValueError("early"), {"state": "paid"}])

    def condition() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert its.wait(condition, interval=0) == {"state": "paid"}
    with pytest.raises(DeployError) as error:
        its.wait(lambda: 1 / 0, timeout=0, what="the impossible")
    assert "service web: the impossible: not within 0 s [condition-not-met]" in str(error.value)
    assert "at last it raised ZeroDivisionError: division by zero" in str(error.value)
    assert "pod shop/web-0: Running, ready" in str(error.value)
    with pytest.raises(DeployError, match="at last it gave None"):
        its.wait(lambda: None, timeout=0)


def test_handle_without_cluster() -> None:
    with pytest.raises(ManifestError, match="service-without-cluster"):
        GoService("web", "shop", "", 0).restart()
