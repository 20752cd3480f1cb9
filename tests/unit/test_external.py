"""Clusters by a context: kubeconfigs, pods on nodes, commands there, connections to services."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mdblocks
import pytest
import yaml

from pytest_kindcov import options
from pytest_kindcov.cluster import bridge, external, kubeconfig, nodepods, orphans, owners
from pytest_kindcov.cluster.engine import EXTERNAL, Engine
from pytest_kindcov.cluster.tunnel import Tunnel
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = mdblocks.ROOT / "docs/clusters.md"


# Kubeconfigs.


def config(path: Path, **kinds: Any) -> Path:
    """A kubeconfig; each kind as a mapping of names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {
        f"{kind}s": [{"name": name, kind: values} for name, values in entries.items()]
        for kind, entries in kinds.items()
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **value}))
    return path


def extracted(tmp_path: Path, context: str, *paths: Path) -> dict[str, Any]:
    target = tmp_path / "target"
    kubeconfig.extract(context, ":".join(map(str, paths)), target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    result: dict[str, Any] = yaml.safe_load(target.read_text())
    return result


def test_context_is_taken_alone(tmp_path: Path) -> None:
    """Of several files the first that has a name counts; paths count from the file's directory."""
    first = config(
        tmp_path / "a/config",
        context={"dev": {"cluster": "c", "user": "u", "namespace": "n"}},
        cluster={"c": {"server": "https://first", "certificate-authority": "ca.pem"}},
        user={"other": {"token": "secret"}},
    )
    second = config(
        tmp_path / "b/config",
        context={"dev": {"cluster": "x", "user": "x"}},
        cluster={"c": {"server": "https://second"}},
        user={"u": {"client-key": "/abs/key", "exec": {"command": "./plugin"}}},
    )
    found = extracted(tmp_path, "dev", first, tmp_path / "missing", second)
    assert found["current-context"] == "dev"
    context = {"cluster": "c", "user": "u", "namespace": "n"}
    assert found["contexts"] == [{"name": "dev", "context": context}]
    cluster = {"server": "https://first", "certificate-authority": f"{tmp_path}/a/ca.pem"}
    assert found["clusters"] == [{"name": "c", "cluster": cluster}]
    plugin = {"command": f"{tmp_path}/b/plugin"}
    assert found["users"] == [{"name": "u", "user": {"client-key": "/abs/key", "exec": plugin}}]


@pytest.mark.parametrize(
    ("context", "slug", "cause"),
    [
        ("nowhere", "context-missing", "has dev"),
        ("dev", "kubeconfig-unusable", "its context dev names cluster c and user u, not there"),
    ],
)
def test_context_that_leads_nowhere(tmp_path: Path, context: str, slug: str, cause: str) -> None:
    path = config(tmp_path / "config", context={"dev": {"cluster": "c", "user": "u"}})
    with pytest.raises(ClusterError) as caught:
        extracted(tmp_path, context, path)
    assert caught.value.slug == slug
    assert cause in caught.value.cause


@pytest.mark.parametrize("text", ["{", "[1]", "contexts: [1]", "contexts: [{context: {}}]"])
def test_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ClusterError) as caught:
        extracted(tmp_path, "dev", path)
    assert caught.value.slug == "kubeconfig-unusable"
    assert str(path) in caught.value.what


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process, elsewhere, is to find them too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("KUBECONFIG", f"a:{tmp_path}/b:")
    assert kubeconfig.places() == f"{tmp_path}/a:{tmp_path}/b"
    assert kubeconfig.places("c") == f"{tmp_path}/c"
    monkeypatch.delenv("KUBECONFIG")
    assert kubeconfig.places() == "/home/me/.kube/config"


# Options.


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind-coverage-cluster=a"],
        ["--kind-coverage-keep=always"],
        ["--kind-coverage-node-image=a"],
        ["--kind-coverage-kind-config=a"],
        ["--cluster-name=a"],
    ],
)
def test_context_and_what_is_of_kinds_clusters(
    pytester: pytest.Pytester, arguments: list[str]
) -> None:
    with pytest.raises(pytest.UsageError, match=r"kube-context.*say one of them"):
        options.resolve(pytester.parseconfig("--kind-coverage-kube-context=dev", *arguments))


def test_context_wins_over_what_is_said_farther_away(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nkindcov_keep = always\nkindcov_cluster = a\n")
    monkeypatch.setenv("KINDCOV_NODE_IMAGE", "b")
    settings = options.resolve(pytester.parseconfig("--kind-coverage-kube-context=dev"))
    assert settings.kube_context == "dev"
    assert (settings.cluster, settings.keep, settings.node_image) == ("", "never", "")
    assert options.resolve(pytester.parseconfig()).cluster == "a"


# Pods on nodes.


def node(arch: str = "amd64", **images: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "n"},
        "status": {
            "nodeInfo": {"architecture": arch},
            "images": [
                {"names": [f"r/{name}@sha256:0", f"r/{name}:1"], "sizeBytes": size}
                for name, size in images.items()
            ],
        },
    }


def test_pod_is_of_an_image_that_is_there() -> None:
    pod = nodepods._pod(node(big=9, pause=5, small=1))
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "r/pause:1"
    assert container["imagePullPolicy"] == "Never"
    assert nodepods._image(node(big=9, small=1)) == "r/small:1"
    with pytest.raises(ClusterError, match="node n tells of no image"):
        nodepods._image(node())


def test_pod_changes_nothing_of_the_node() -> None:
    """A host's directory that is not there would be made."""
    for arch, lib64 in (("amd64", True), ("arm64", False)):
        spec = nodepods._pod(node(arch, pause=1))["spec"]
        paths = {volume["hostPath"]["path"] for volume in spec["volumes"]}
        assert ("/lib64" in paths) == lib64
        assert all(mount["readOnly"] for mount in spec["containers"][0]["volumeMounts"])
        assert spec["activeDeadlineSeconds"]


@pytest.mark.parametrize("slug", ["api-refused", "api-unreachable"])
def test_only_an_answer_is_a_refusal(slug: str) -> None:
    """An API server that is away is no reason to do without the nodes."""

    class Api:
        def create(self, _: Any) -> Any:
            raise ClusterError("no", cause="why", slug=slug)

    pods = nodepods.NodePods(Api(), "run")  # type: ignore[arg-type]
    with pytest.raises(ClusterError) as caught:
        pods._create(node(pause=1))
    assert isinstance(caught.value, nodepods.Refused) == (slug == "api-refused")
    assert caught.value.cause == "why"


def test_names_of_pods() -> None:
    long = nodepods.pod_name("node." * 50)
    assert len(long) < 30
    assert long != nodepods.pod_name("node")


@pytest.mark.parametrize(
    ("status", "runs", "hopeless"),
    [
        ({}, False, False),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, True, False),
        ({"phase": "Running", "containerStatuses": [{"state": {"waiting": {}}}]}, False, False),
        ({"phase": "Failed", "reason": "OutOfpods"}, False, True),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull"}}}],
            },
            False,
            True,
        ),
    ],
)
def test_states_of_pods(status: dict[str, Any], runs: bool, hopeless: bool) -> None:
    pod = {"spec": {"nodeName": "n"}, "status": status}
    assert (nodepods._runs(pod), nodepods._is_hopeless(pod)) == (runs, hopeless)
    assert nodepods._state(pod).startswith("node n:")


def test_the_pages_role_is_what_is_asked_for() -> None:
    (block,) = (each for each in mdblocks.blocks(PAGE) if each.file == "kindcov-role.yaml")
    assert block.text.strip() == nodepods.role(), "write it anew: python -c 'print(role())'"


class Judge:
    """An API server that refuses one thing."""

    def __init__(self, *refused: str) -> None:
        self._refused = dict(zip(("resource", "subresource"), refused, strict=False))

    def create(self, review: dict[str, Any]) -> dict[str, Any]:
        asked = review["spec"]["resourceAttributes"]
        return {"status": {"allowed": not self._refused.items() <= asked.items()}}


def test_all_missing_rights_are_named() -> None:
    for without_nodes in (False, True):
        with pytest.raises(ClusterError) as caught:
            nodepods.check_rights(Judge("endpointslices"), without_nodes=without_nodes)  # type: ignore[arg-type]
        assert caught.value.cause.endswith(": list endpointslices (discovery.k8s.io)")
        assert nodepods.role() in caught.value.remedy


def test_rights_on_nodes_can_be_done_without() -> None:
    api: Any = Judge("nodes", "proxy")
    assert nodepods.check_rights(api, without_nodes=True) == "get nodes/proxy"
    with pytest.raises(ClusterError, match="does not let us"):
        nodepods.check_rights(api, without_nodes=False)
    assert nodepods.check_rights(Judge("none"), without_nodes=False) == ""  # type: ignore[arg-type]


# Commands on nodes.


def test_command_comes_by_standard_input() -> None:
    """Word by word, whatever is in them; what follows is the command's own input."""
    words = ["printf", "%s|", "two words", "line\nbreak", "", "$HOME `id` 'x'", "ä"]
    command = ["bash", "-c", '"$@"; cat', "name", *words]
    done = subprocess.run(
        ["bash", "-c", bridge._LAUNCH],
        input=bridge.sent(command) + b"rest\0of it",
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "".join(f"{word}|" for word in words[2:]) + "rest\0of it"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ({"status": "Success"}, 0, ""),
        (
            {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}},
            3,
            "",
        ),
        ({"status": "Failure", "message": "no such pod"}, bridge.FAILED, "no such pod"),
        (None, bridge.FAILED, "the connection ended before the command did"),
    ],
)
def test_exit_codes(status: Any, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(status).encode() if status else b""
    assert bridge._exit_code(text) == code
    assert capsys.readouterr().err.strip() == said


def test_connection_is_private(tmp_path: Path) -> None:
    made = bridge.Connection("https://a:1", authorization="Bearer secret", verify=False)
    made.write(tmp_path / "connection.json")
    assert stat.S_IMODE((tmp_path / "connection.json").stat().st_mode) == 0o600
    assert bridge.Connection.read(tmp_path / "connection.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["connection.json"]


def test_server_that_is_not_there(tmp_path: Path) -> None:
    """As an engine's exec: an exit code of its own, and why."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    path = tmp_path / "connection.json"
    bridge.Connection(f"https://127.0.0.1:{port}").write(path)
    made = external.External(EXTERNAL, directory=tmp_path)
    made.__dict__["api"] = Reached(bridge.Connection(f"https://127.0.0.1:{port}"))
    done = subprocess.run(
        made.exec_args("n", ["true"]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == bridge.FAILED
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


class Reached:
    """A client that only says how the API server is reached."""

    def __init__(self, connection: bridge.Connection) -> None:
        self.told = connection

    def connection(self) -> bridge.Connection:
        return self.told


def test_a_new_token_is_written(tmp_path: Path) -> None:
    client = Reached(bridge.Connection("https://a", authorization="Bearer 1"))
    made = external.External(EXTERNAL, directory=tmp_path)
    made.__dict__["api"] = client
    for token in ("Bearer 1", "Bearer 2"):
        client.told = bridge.Connection("https://a", authorization=token)
        made.exec_args("n", ["true"])
        assert bridge.Connection.read(tmp_path / "connection.json").authorization == token


# Dead runs.


def test_dead_runs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = external.External(EXTERNAL, cluster="dev-1a2b3c")
    assert owners.claim("dev-1a2b3c", made, attached=True, reach={"run": "x"})
    assert orphans.borrowed_by_api() == []
    (owner,) = owners.owners(made).values()
    assert owner.reach == {"run": "x"}
    # The endpoint of an engine is nothing to it.
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere")
    assert list(owners.owners(made)) == ["dev-1a2b3c"]
    assert owners.owners(Engine("podman")) == {}
    with subprocess.Popen(["true"]) as process:
        pass
    dead = replace(owner, pid=process.pid, started="1")
    assert owners._write(dead)
    assert orphans.borrowed_by_api() == [dead]


# Connections to services.


class Cluster:
    """An API with one Service and its endpoints; connections lead to a server here."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.ready = True
        self.asked: list[tuple[str, str, int]] = []

    def list(
        self, _version: str, kind: str, _namespace: str | None = None, _selector: str = ""
    ) -> list[dict[str, Any]]:
        ports = [{"name": "udp", "protocol": "UDP"}, {"name": "tcp", "protocol": "TCP"}]
        if kind == "Service":
            own = {"name": "kindcov-web", "namespace": "shop"}
            spec = {"ports": [port | {"nodePort": 30100} for port in ports]}
            return [{"metadata": own, "spec": spec}]
        ends = [
            {"conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}
            for name, ready in (("good", self.ready), ("bad", False))
        ]
        numbered = [port | {"port": 8080 + at} for at, port in enumerate(ports)]
        return [{"ports": numbered, "endpoints": ends}]

    def forward(self, namespace: str, pod: str, port: int) -> socket.socket:
        self.asked.append((namespace, pod, port))
        return socket.create_connection(self._server.getsockname())


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    """A server that says all that it is told, backwards."""

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(connection.recv(100)[::-1])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_tunnel_leads_to_a_pod_that_is_ready(echo: socket.socket) -> None:
    cluster = Cluster(echo)
    tunnel = Tunnel(cluster, 30100)  # type: ignore[arg-type]
    try:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", tunnel.port), 10) as connection:
                connection.sendall(b"abc")
                assert connection.recv(100) == b"cba"
                assert connection.recv(100) == b""
        assert cluster.asked == [("shop", "good", 8081)] * 3
        cluster.ready = False
        with socket.create_connection(("127.0.0.1", tunnel.port), 10) as connection:
            assert connection.recv(100) == b""
    finally:
        tunnel.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", tunnel.port), 10)


def test_no_service_has_the_port(echo: socket.socket) -> None:
    with pytest.raises(ClusterError, match="no Service has the node port 30101"):
        Tunnel(Cluster(echo), 30101)  # type: ignore[arg-type]
