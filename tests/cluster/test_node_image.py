"""The node image of nodeimage/ is a drop-in for kindest/node: stock Kind, real clusters."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODE_KUBECTL = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]

# CoreDNS is in the node already; its health plugin is an HTTP server.
PROBE = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: probe}}
data:
  Corefile: |
    .:5300 {{
      health :8080
    }}
---
apiVersion: v1
kind: Pod
metadata: {{name: probe-{n}, labels: {{probe: "{n}"}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  tolerations: [{{operator: Exists}}]
  containers:
  - name: probe
    image: registry.k8s.io/coredns/coredns:v1.12.1
    args: [-conf, /probe/Corefile]
    readinessProbe: {{httpGet: {{path: /health, port: 8080}}, periodSeconds: 1}}
    volumeMounts: [{{name: config, mountPath: /probe}}]
  volumes: [{{name: config, configMap: {{name: probe}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: probe-{n}}}
spec:
  selector: {{probe: "{n}"}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


@dataclass
class Cluster:
    """A cluster made by stock Kind, and short ways to speak to it."""

    name: str
    engine: Any

    @property
    def control(self) -> str:
        return f"{self.name}-control-plane"

    def cli(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        return sh([self.engine.cli, *args], self.engine.env, stdin, timeout)

    def node(self, node: str, *args: str, stdin: str | None = None) -> str:
        return self.cli("exec", "-i", node, *args, stdin=stdin)

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.node(self.control, *NODE_KUBECTL, *args, stdin=stdin)

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def wait_ready(self, nodes: int) -> None:
        def ready() -> bool:
            found = self.get("nodes")["items"]
            pods = self.get("pods", "-A")["items"]
            ready = all(condition(o, "Ready") for o in found + pods)
            return ready and len(found) == nodes and len(pods) > 7

        eventually(ready, 90)


def sh(command: list[str], env: dict[str, str], stdin: str | None, timeout: float) -> str:
    done = subprocess.run(
        command,
        env=os.environ | env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def condition(thing: dict[str, Any], kind: str) -> bool:
    found = thing["status"].get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in found)


def eventually(check: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    last: object = "false"
    while time.monotonic() < end:
        try:
            if check():
                return
            last = "false"
        except RuntimeError as e:
            last = e
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s: {last}")


@pytest.fixture(scope="module")
def create(
    engine: Any, node_image: str, kind_bin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Cluster]]:
    """Make clusters with `kind create cluster --image`; delete them at the end of the module."""
    kubeconfig = str(tmp_path_factory.mktemp("kube") / "config")
    names: list[str] = []

    def make(config: str | None = None) -> Cluster:
        name = f"ni-{uuid.uuid4().hex[:6]}"
        names.append(name)
        command = [kind_bin, "create", "cluster", "--name", name, "--image", node_image]
        command += ["--kubeconfig", kubeconfig, *(["--config", "-"] if config else [])]
        sh(command, engine.env, config, 300)
        return Cluster(name, engine)

    yield make
    for name in names:
        command = [kind_bin, "delete", "cluster", "--name", name, "--kubeconfig", kubeconfig]
        sh(command, engine.env, None, 120)


@pytest.fixture(scope="module")
def single(create: Callable[..., Cluster]) -> Cluster:
    return create()


@pytest.fixture(scope="module")
def pair(create: Callable[..., Cluster]) -> Cluster:
    return create(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
        "nodes: [{role: control-plane}, {role: worker}]\n"
        "containerdConfigPatches:\n- |-\n"
        '  [plugins."io.containerd.grpc.v1.cri".containerd]\n    discard_unpacked_layers = false\n'
    )


def probe(cluster: Cluster, n: int, node: str) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=PROBE.format(n=n, node=node))


def asks(cluster: Cluster, node: str, target: str) -> bool:
    """Ask a Service from inside the network of the probe pod that runs on `node`."""
    address = cluster.get("service", target)["spec"]["clusterIP"]
    pid = cluster.node(node, "pgrep", "-f", "^[^ ]*coredns -conf /probe/").split()[0]
    request = r"GET /health HTTP/1.0\r\n\r\n"
    ask = f"exec 3<>/dev/tcp/{address}/80; printf '{request}' >&3; timeout 5 cat <&3"
    answer = cluster.node(node, "nsenter", "-t", pid, "-n", "timeout", "5", "bash", "-c", ask)
    if "200 OK" not in answer:
        raise RuntimeError(f"{target} from {node} answers {answer!r}")
    return True


def test_one_node_becomes_ready_with_everything_of_a_cluster(single: Cluster) -> None:
    single.wait_ready(1)
    assert single.get("storageclass", "standard")["provisioner"] == "kubernetes.io/host-path"
    assert single.node(single.control, "cat", "/kind/version") == "v1.34.4\n"
    assert single.kubectl("version").count("v1.34.4") == 2
    single.node(single.control, "perl", "-e", "1")


def test_stop_is_clean_and_start_brings_back_api_pods_and_data(
    single: Cluster, node_image: str
) -> None:
    single.wait_ready(1)
    probe(single, 1, single.control)
    eventually(lambda: condition(single.get("pod", "probe-1"), "Ready"), 60)
    address = single.node(single.control, "cat", "/kind/old-ipv4").strip()

    begin = time.monotonic()
    single.cli("stop", "-t", "60", single.control)
    assert time.monotonic() - begin < 10, "engines kill after 10 s"

    with taken(single, address, node_image):
        single.cli("start", single.control)
        eventually(
            lambda: single.node(single.control, "cat", "/kind/old-ipv4").strip() != address, 30
        )
        single.wait_ready(1)
        eventually(lambda: asks(single, single.control, "probe-1"), 30)
        internal = single.get("node", single.control)["status"]["addresses"]
        assert address not in [a["address"] for a in internal]
        assert "Corefile" in single.get("configmap", "probe")["data"]


@contextlib.contextmanager
def taken(cluster: Cluster, address: str, node_image: str) -> Iterator[None]:
    """Other containers take an address; docker gives the lowest free one, none on demand."""
    names = [f"{cluster.name}-squatter-{number}" for number in range(8)]
    run = ["run", "-d", "--net", "kind", "--entrypoint", "sleep"]
    try:
        for name in names:
            cluster.cli(*run, "--name", name, node_image, "600")
            details = json.loads(cluster.cli("inspect", name))[0]
            if details["NetworkSettings"]["Networks"]["kind"]["IPAddress"] == address:
                break
            if cluster.engine.name == "podman":  # it counts upwards, but gives what is asked for
                cluster.cli("rm", "-f", "-t", "0", name)
                cluster.cli(*run, "--name", name, "--ip", address, node_image, "600")
                break
        else:
            pytest.fail(f"no container got the address {address}")
        yield
    finally:
        for name in names:
            with contextlib.suppress(RuntimeError):
                cluster.cli("rm", "-f", name)


def pod_ready(cluster: Cluster, name: str) -> bool:
    return condition(cluster.get("pod", name), "Ready")


@pytest.fixture(scope="module")
def probed(pair: Cluster) -> Cluster:
    """Two nodes, each with a pod behind a Service."""
    pair.wait_ready(2)
    probe(pair, 1, pair.control)
    probe(pair, 2, f"{pair.name}-worker")
    for n in (1, 2):
        eventually(partial(pod_ready, pair, f"probe-{n}"), 60)
    return pair


def test_pods_reach_services_on_the_other_node(probed: Cluster) -> None:
    eventually(lambda: asks(probed, probed.control, "probe-2"), 20)
    eventually(lambda: asks(probed, f"{probed.name}-worker", "probe-1"), 20)


def test_a_worker_comes_back_and_routes_follow_it(probed: Cluster, node_image: str) -> None:
    worker = f"{probed.name}-worker"
    address = probed.node(worker, "cat", "/kind/old-ipv4").strip()
    probed.cli("stop", "-t", "60", worker)
    with taken(probed, address, node_image):
        probed.cli("start", worker)

        def moved() -> bool:
            addresses = [a["address"] for a in probed.get("node", worker)["status"]["addresses"]]
            return address not in addresses and asks(probed, probed.control, "probe-2")

        eventually(moved, 90)
        eventually(lambda: asks(probed, worker, "probe-1"), 30)


def test_usual_kind_configurations_are_accepted(
    create: Callable[..., Cluster], tmp_path: Path
) -> None:
    (tmp_path / "seen").write_text("yes")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    cluster = create(
        f"""
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {{disableDefaultCNI: true}}
nodes:
- role: control-plane
  extraMounts: [{{hostPath: {tmp_path}, containerPath: /extra}}]
  extraPortMappings: [{{containerPort: 30080, hostPort: {port}, listenAddress: 127.0.0.1}}]
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs: {{node-labels: "patched=yes"}}
"""
    )
    node = cluster.get("node", cluster.control)
    assert node["metadata"]["labels"]["patched"] == "yes"
    assert cluster.node(cluster.control, "cat", "/extra/seen") == "yes"
    assert not condition(node, "Ready"), "no pod network was asked for"
    assert cluster.get("daemonsets", "-n", "kube-system")["items"][0]["metadata"]["name"] == (
        "kube-proxy"
    )
    inspected = json.loads(cluster.cli("inspect", cluster.control))[0]
    assert str(port) in json.dumps(inspected)
