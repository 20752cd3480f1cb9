"""Why a service does not come up: on pods, events and workloads recorded from a real cluster."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.errors import ClusterError, DeployError
from pytest_kindcov.service import deploy, faults, refusals, rollout
from pytest_kindcov.service.deploy import Workload
from pytest_kindcov.service.spec import ServiceSpec

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Object

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "recorded/objects.json").read_text()
)
EVENTS: list[Object] = RECORDED["events"]
IMAGES = [
    name
    for node in RECORDED["nodes"]
    for image in node["status"]["images"]
    for name in image["names"]
]
NEVER = None


@pytest.mark.parametrize(
    ("pod", "slug", "patience", "message", "remedy"),
    [
        ("never", "image-never-pulled", 0, "not present with pull policy of Never", "load it"),
        ("badname", "image-name-invalid", 0, "invalid reference format", "mend the image's name"),
        ("pull", "image-pull-failed", 15, "no such host", "must be loaded"),
        ("pulllatest", "image-pull-failed", 15, "connection refused", "must be loaded"),
        ("command", "command-not-startable", 0, "stat /bin/sh: no such file", "not a shell"),
        ("crash", "crash-loop", 0, "exit code 1 (Error)", "env="),
        ("init", "crash-loop", 0, "exit code 1 (Error)", "env="),
        ("ends", "program-ends", 0, "exit code 0 (Completed)", "go on running"),
        ("oom", "container-out-of-memory", 0, "exit code 137 (OOMKilled)", "limits.memory"),
        ("nosecret", "reference-missing", 15, 'secret "absent" not found', "add the Secret"),
        ("nokey", "reference-missing", 15, "couldn't find key absent", "or its key"),
        ("asroot", "runs-as-root", 0, "image will run as root", "runAsUser"),
        ("ready404", "probe-failing", NEVER, "statuscode: 404", "path and port"),
        ("readyrefused", "probe-failing", NEVER, ":9: connect: connection refused", "port"),
        ("readyexec", "probe-impossible", 2, 'exec: "cat": executable file not', "httpGet"),
        ("live404", "probe-kills", 0, "Liveness probe failed: HTTP", "startupProbe"),
        ("start404", "probe-kills", 0, "Startup probe failed: HTTP", "startupProbe"),
        ("big", "pod-unschedulable", 30, "1 Insufficient cpu", "requests"),
        ("selector", "pod-unschedulable", 30, "node affinity/selector", "nodeSelector"),
        ("noclaim", "pod-unschedulable", 30, 'claim "absent" not found', "add the Persistent"),
        ("noconfig", "volume-not-mounted", 30, 'configmap "absent" not found', "refers to"),
        ("nohostpath", "volume-not-mounted", 30, "/absent is not a directory", "mend the volume"),
    ],
)
def test_pod(pod: str, slug: str, patience: float | None, message: str, remedy: str) -> None:
    first, *others = faults.of_pod(RECORDED["pods"][pod], EVENTS, IMAGES)
    assert (first.slug, first.patience) == (slug, patience)
    assert message in first.message
    assert remedy in first.remedy
    assert first.where.startswith(f"pod {pod}")
    assert [other.slug for other in others] == (["container-waiting"] if pod == "init" else [])


def test_pod_that_is_well_has_no_fault() -> None:
    assert faults.of_pod(RECORDED["pods"]["ok"], EVENTS) == []


@pytest.mark.parametrize(
    ("workload", "slug", "patience"),
    [
        ("strict", "pod-security", 2),  # Deployment
        ("set", "pod-security", 2),  # DaemonSet
        ("state", "pod-security", 2),  # StatefulSet
        ("quota", "quota-needs-limits", 2),
        ("exceeds", "quota-exceeded", 30),
        ("ranged", "limit-range", 2),
        ("noaccount", "service-account-missing", 15),
    ],
)
def test_workload(workload: str, slug: str, patience: float) -> None:
    (fault,) = refusals.of_workload(RECORDED["workloads"][workload], EVENTS)
    assert (fault.slug, fault.patience) == (slug, patience)
    assert f"/{workload}" in fault.where
    assert "forbidden" in fault.message


@pytest.mark.parametrize(
    ("message", "slug"),
    [
        ('admission webhook "v.example" denied the request: no', "webhook-denied"),
        ('Internal error: failed calling webhook "v.example": refused', "webhook-unreachable"),
        ("something else", "pod-refused"),
    ],
)
def test_other_refusals(message: str, slug: str) -> None:
    assert refusals.refusal("Pod x", message).slug == slug


def test_events_of_an_earlier_pod_do_not_count() -> None:
    pod = copy.deepcopy(RECORDED["pods"]["readyexec"])
    pod["metadata"]["uid"] = "another"
    (fault,) = faults.of_pod(pod, EVENTS)
    assert fault.slug == "probe-failing"


def test_mount_that_succeeded_later_is_no_fault() -> None:
    pod = RECORDED["pods"]["noconfig"]
    later = {
        "involvedObject": {"kind": "Pod", "name": "noconfig", "uid": pod["metadata"]["uid"]},
        "reason": "Pulling",
        "lastTimestamp": "2999-01-01T00:00:00Z",
    }
    (fault,) = faults.of_pod(pod, [*EVENTS, later])
    assert fault.slug == "container-waiting"


def test_image_that_is_there_under_another_name_is_named() -> None:
    pod = copy.deepcopy(RECORDED["pods"]["never"])
    pod["spec"]["containers"][0]["image"] = "coredns:dev"
    (fault,) = faults.of_pod(pod, EVENTS, IMAGES)
    assert "the nodes have registry.k8s.io/coredns/coredns:v1.12.1" in fault.remedy


def test_pull_policy_is_blamed_where_the_image_is_there() -> None:
    pod = copy.deepcopy(RECORDED["pods"]["pulllatest"])
    (fault,) = faults.of_pod(pod, EVENTS, ["localhost/absent:latest"])
    assert fault.slug == "image-pull-policy"
    assert "IfNotPresent" in fault.remedy


def test_few_restarts_may_pass() -> None:
    pod = copy.deepcopy(RECORDED["pods"]["crash"])
    pod["status"]["containerStatuses"][0]["restartCount"] = 2
    (fault,) = faults.of_pod(pod, EVENTS)
    assert (fault.slug, fault.patience) == ("crash-loop", None)


def test_node_that_is_not_ready_is_no_reason_to_give_up() -> None:
    pod = copy.deepcopy(RECORDED["pods"]["big"])
    for condition in pod["status"]["conditions"]:
        condition["message"] = (
            "0/1 nodes are available: 1 node(s) had"
            " untolerated taint {node.kubernetes.io/not-ready: }"
        )
    (fault,) = faults.of_pod(pod, EVENTS)
    assert fault.patience is None


def test_odd_objects_are_harmless() -> None:
    pod = {
        "metadata": {"name": "x", "namespace": "y"},
        "status": {"containerStatuses": [{"name": "c"}]},
    }
    assert [fault.slug for fault in faults.of_pod(pod, [{}])] == ["probe-failing"]
    assert faults.of_pod({"metadata": {"name": "x"}}, []) == []
    assert refusals.of_workload({"kind": "Deployment", "metadata": {"name": "x"}}, []) == []


class Cluster:
    """The API of a cluster that holds what was recorded."""

    def __init__(self, *pods: str) -> None:
        self.pods: list[Object] = [copy.deepcopy(RECORDED["pods"][name]) for name in pods]
        self.asked: list[str] = []
        self.ready = False

    def get(self, version: str, kind: str, name: str, namespace: str) -> Object | None:
        self.asked.append(kind)
        if kind == "Pod":
            return self.pods[0]
        if kind == "Deployment" and not self.ready:
            return {"kind": kind, "metadata": {"name": name, "generation": 1}, "status": {}}
        status = {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
        return {"kind": kind, "metadata": {"name": name}, "status": status}

    def list(
        self, version: str, kind: str, namespace: str = "", selector: str = ""
    ) -> list[Object]:
        self.asked.append(kind)
        if kind == "Pod":
            return self.pods
        if kind == "Node":
            return list(RECORDED["nodes"])
        return EVENTS

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        return f"{pod} said so\nwith <script> and \x1b[1mhunter22" if previous else ""

    def apply(self, obj: Object, namespace: str) -> Object:
        raise ClusterError(
            "cannot apply Pod bare", cause='pods "bare" is forbidden: violates PodSecurity "x"'
        )


def workload(kind: str = "Deployment", name: str = "web") -> Workload:
    return Workload(kind, name, "t", "apps/v1", {"app": "web"})


def wait(cluster: Any, timeout: float = 20, kind: str = "Deployment") -> None:
    rollout.wait_ready(cluster, [workload(kind)], service="web", timeout=timeout)


def test_final_fault_ends_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    begin = time.monotonic()
    with pytest.raises(DeployError) as caught:
        wait(Cluster("crash"))
    assert time.monotonic() - begin < 10  # of 20
    text = str(caught.value)
    assert text.startswith(
        "service web: pod crash, container web cannot run: CrashLoopBackOff [crash-loop]"
    )
    assert "log: crash said so" in text
    assert "log: with <script> and [secret]\n" in text


def test_images_of_the_nodes_are_asked_for_once_and_only_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "_SOON", 0.7)
    cluster = Cluster("pull")
    with pytest.raises(DeployError, match="image-pull-failed"):
        wait(cluster)
    assert cluster.asked.count("Node") == 1
    cluster = Cluster("crash")
    with pytest.raises(DeployError):
        wait(cluster)
    assert "Node" not in cluster.asked


def test_passing_fault_is_named_at_the_deadline() -> None:
    begin = time.monotonic()
    with pytest.raises(DeployError) as caught:
        wait(Cluster("ready404"), timeout=2.5)
    assert time.monotonic() - begin < 15
    text = str(caught.value)
    assert "rollout: not within 2 s [probe-failing]" in text
    assert "statuscode: 404" in text
    assert "timeout=...) gives it longer" in text


def test_no_pods_and_no_reason() -> None:
    with pytest.raises(DeployError, match=r"\[rollout-timeout\]") as caught:
        wait(Cluster(), timeout=0.3)
    assert "Deployment t/web is not ready" in caught.value.cause
    assert "has no pods" in caught.value.cause


def test_fault_that_went_away_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_SOON", 1.0)
    cluster = Cluster("nosecret")
    looks = 0
    missing, well = cluster.pods, [RECORDED["pods"]["ok"]]

    def pods(*args: Any) -> list[Object]:
        nonlocal looks
        looks += 1
        cluster.ready = looks > 12
        return well if looks % 4 == 0 else missing

    monkeypatch.setattr(rollout, "select", pods)
    wait(cluster)  # it was never away for a second
    assert looks >= 12


def test_bare_pod_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeployError, match=r"pod never, container web cannot run.*never-pulled"):
        wait(Cluster("never"), kind="Pod")


def test_refused_bare_pod_has_a_remedy() -> None:
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {}}
    cluster: Any = Cluster("ok")
    with pytest.raises(DeployError, match="pod-security") as caught:
        deploy.apply(cluster, [bare], ServiceSpec(directory="/", package="x", namespace="default"))
    assert "pod-security.kubernetes.io/enforce" in caught.value.remedy


def test_jobs_are_not_waited_for() -> None:
    wait(Cluster(), kind="Job", timeout=0.1)


def test_many_faults_are_cut() -> None:
    cluster = Cluster(*["ready404"] * 20)
    for number, pod in enumerate(cluster.pods):
        pod["metadata"]["name"] = f"ready{number}"
    with pytest.raises(DeployError) as caught:
        wait(cluster, timeout=0.3)
    assert "and 12 more of these" in caught.value.cause
