"""An environment that is in the way: the run copes with it, or says at once what is wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faulttable import deployment, repository, run
from harness import ONE_ENGINE, Runner

from pytest_kindcov.service.image import write_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faulttable import Cluster, Launch
    from harness import TestEngine

CONFTEST = """
from pytest_kindcov import go_service
web = go_service(".", name="web", manifests="web.yaml", port=8080)
"""
ASKS = """
from cluster import get

def test_asks(web):
    get(web, "hit/a")
"""
CLUSTER = "def test_cluster(kind_cluster): pass\n"
FILES = {"web.yaml": deployment("web")}


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port of this machine on which connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@ONE_ENGINE
def test_all_in_one(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path, dead_port: int
) -> None:
    """Proxies that lead nowhere, no HOME, blanks and letters beyond ASCII in every path."""
    place = tmp_path / "Präfix mit 空白"
    place.mkdir()
    runner = Runner.within(place, engine, node_image, kind_bin)
    del runner.env["HOME"]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        runner.env[name] = f"http://127.0.0.1:{dead_port}"
    runner.env["NO_PROXY"] = "example.com"
    runner.env["KINDCOV_DIR"] = "Maß 結果"
    client = "\nimport kubernetes, pykube\n\ndef test_clients(kind_cluster):\n" + CLIENTS
    where = repository(place / "Käse laden", CONFTEST, ASKS + client, FILES)
    result = run(runner, where, "-n2")
    assert "2 passed" in result.output
    assert result.counts(runner.env["KINDCOV_DIR"])["a"] == 1
    assert "WARNING" not in result.output
    assert result.code == 0
    assert result.left == []


CLIENTS = """
    kubeconfig = str(kind_cluster.kubeconfig_path)
    kubernetes.config.load_kube_config(kubeconfig)
    assert kubernetes.client.CoreV1Api().list_node().items
    assert len(pykube.Node.objects(kind_cluster.api)) == 1
    assert "web" in kind_cluster.kubectl("get", "pods")
"""


@ONE_ENGINE
def test_read_only_repository(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path, shared: Cluster
) -> None:
    """Where data cannot be written is said before anything is paid; elsewhere they can."""
    runner = Runner.within(tmp_path, engine, node_image, kind_bin)
    where = repository(tmp_path / "repository", CONFTEST, ASKS, FILES)
    with read_only(where):
        result = run(runner, where, cluster=shared)
        assert result.message(r"^ERROR .*\[directory-not-writable\]")
        assert "creating cluster" not in result.output
        assert (result.code, result.left) == (1, [])
        elsewhere = tmp_path / "elsewhere"
        result = run(runner, where, f"--kind-coverage-dir={elsewhere}", cluster=shared)
        assert result.counts(str(elsewhere))["a"] == 1
        assert (result.code, result.left) == (0, [])


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """A read-only file system; root may write in spite of permissions."""
    if os.geteuid() != 0:
        directory.chmod(0o500)
        yield
        directory.chmod(0o700)
        return
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@ONE_ENGINE
def test_kubeconfig_that_is_locked(launch: Launch, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    lock = tmp_path / "kubeconfig.lock"
    lock.touch()
    result = launch("", CLUSTER, f"--kubeconfig={kubeconfig}")
    assert result.message(r"^ERROR .*\[kubeconfig-locked\]")
    assert f"{lock} is there" in result.message(r"^ERROR (?!test_)")
    assert lock.exists()
    assert not kubeconfig.exists()
    assert (result.code, result.left) == (1, [])


MINE = """
apiVersion: v1
kind: Config
current-context: mine
clusters: [{name: mine, cluster: {server: "https://mine.invalid"}}]
contexts: [{name: mine, context: {cluster: mine, user: mine}}]
users: [{name: mine, user: {token: mine}}]
"""


@ONE_ENGINE
def test_kubeconfig_with_other_clusters(launch: Launch, tmp_path: Path, shared: Cluster) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(MINE)
    asks = "def test_cluster(kind_cluster): kind_cluster.kubectl('get', 'nodes')\n"
    result = launch("", asks, f"--kubeconfig={kubeconfig}", "-n1", cluster=shared)
    assert "1 passed" in result.output
    assert kubeconfig.read_text() == MINE
    assert list(tmp_path.iterdir()) == [kubeconfig]
    assert result.left == []


@ONE_ENGINE
def test_port_that_is_taken(launch: Launch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mapping = f"{{containerPort: 30000, hostPort: {port}, listenAddress: 127.0.0.1}}"
        config = (
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n"
        )
        files = {"kind.yaml": f"{config}  extraPortMappings: [{mapping}]\n"}
        args = ["--kind-coverage-kind-config=kind.yaml"]
        result = launch("", CLUSTER, *args, files=files)
        assert result.message(r"^ERROR .*\[port-taken\]")
        assert f"in use: 127.0.0.1:{port}" in result.message(r"^ERROR (?!test_)")
        assert (result.code, result.left) == (1, [])
        result = launch("", CLUSTER, *args, "--kind-coverage-missing=skip", files=files)
        assert result.outcome("test_cluster") == "SKIPPED"
        assert result.message(r"^SKIPPED .*\[port-taken\]")
        assert (result.code, result.left) == (0, [])


@ONE_ENGINE
def test_name_that_is_taken(launch: Launch, engine: TestEngine, node_image: str) -> None:
    """By a container that is not ours: it stays."""
    name = f"taken-{os.getpid()}"
    node = f"{name}-control-plane"
    engine.run("create", "--name", node, node_image)
    try:
        result = launch("", CLUSTER, f"--cluster-name={name}")
        assert result.message(r"^ERROR .*\[container-name-taken\]")
        assert engine.run("ps", "-a", "--filter", f"name={node}", "--format", "{{.Names}}") == node
        assert (result.code, result.left) == (1, [])
    finally:
        engine.run("rm", "-f", "-v", node)
    label = f"io.x-k8s.kind.cluster={name}"
    engine.run("create", "--name", node, "--label", label, node_image)
    try:
        result = launch("", CLUSTER, f"--cluster-name={name}")
        assert result.message(r"^ERROR .*\[cluster-not-running\]")
        assert engine.run("ps", "-a", "--filter", f"name={node}", "--format", "{{.Names}}") == node
        assert (result.code, result.left) == (1, [])
    finally:
        engine.run("rm", "-f", "-v", node)


@ONE_ENGINE
@pytest.mark.parametrize("missing", ["fail", "skip"])
@pytest.mark.parametrize("what", ["engine", "kind", "go"])
def test_what_is_missing(
    what: str, missing: str, launch: Launch, engine: TestEngine, tmp_path: Path, shared: Cluster
) -> None:
    """A tool that is not on this machine: one error, or skipped tests and no word of coverage."""
    tools = tmp_path / "bin"
    tools.mkdir()
    found = {"engine": engine.cli, "kind": "", "go": "go"}[what]
    for directory in map(Path, engine.env["PATH"].split(os.pathsep)):
        for tool in directory.iterdir() if directory.is_dir() else []:
            if tool.name != found and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    env = {"PATH": str(tools)}
    if what == "kind":
        env["KINDCOV_KIND_BIN"] = str(tmp_path / "kind")
    result = launch(
        CONFTEST, ASKS, f"--kind-coverage-missing={missing}", files=FILES, env=env, cluster=shared
    )
    slug = "no-engine" if what == "engine" else f"{what}-missing"
    assert "TOTAL" not in result.output
    assert "Traceback" not in result.output
    assert result.left == []
    if missing == "fail":
        assert result.message(rf"^ERROR .*\[{slug}\]")
        assert (result.code, result.outcome("test_asks")) == (1, "ERROR")
    else:
        assert result.message(rf"^SKIPPED .*\[{slug}\]")
        assert "no coverage was measured" in result.output
        assert (result.code, result.outcome("test_asks")) == (0, "SKIPPED")


PREBUILT = """
import os
from pytest_kindcov import go_service

env = {"A_TOKEN": os.environ["A_TOKEN"]}
web = go_service(image="localhost/web:other", port=8080, env=env)
"""


@ONE_ENGINE
def test_image_of_another_architecture(
    launch: Launch, engine: TestEngine, tmp_path: Path, shared: Cluster
) -> None:
    other = "arm64" if engine.run("info", "--format", "{{.Host.Arch}}") == "amd64" else "amd64"
    archive = tmp_path / "image.tar"
    write_archive(
        archive, program=Path("/bin/true"), reference="localhost/web:other", name="web", arch=other
    )
    engine.run("load", "-i", str(archive))
    try:
        result = launch(PREBUILT, ASKS, cluster=shared)
    finally:
        engine.run("rmi", "localhost/web:other")
    assert result.message(r"^ERROR .*\[wrong-architecture\]")
    assert other in result.message(r"^ERROR (?!test_)")
    assert (result.code, result.left) == (1, [])
