"""What can be known before a cluster is made."""

from __future__ import annotations

import socket
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.cluster import preflight
from pytest_kindcov.cluster.engine import Engine
from pytest_kindcov.cluster.kind import KindCluster
from pytest_kindcov.cluster.preflight import FAIL, OK, WARN
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

PODMAN = """host:
  arch: amd64
  cgroupVersion: v1
  security:
    rootless: false
store:
  graphRoot: {storage}
"""
DOCKER = """Client:
 Version:    28.2.2
Server:
 Server Version: 28.2.2
 Cgroup Driver: systemd
 Cgroup Version: 2
 Security Options:
  seccomp
   Profile: builtin
  rootless
  cgroupns
 Architecture: x86_64
 Docker Root Dir: {storage}
"""
PROC = {
    "/proc/meminfo": "MemTotal: 8 kB\nMemAvailable:    8000000 kB",
    "/proc/sys/fs/inotify/max_user_instances": "512",
    "/proc/sys/fs/inotify/max_user_watches": "524288",
    "/proc/sys/kernel/keys/maxkeys": "2000",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine on which all is well, to be spoilt."""
    values: dict[str, Any] = {**PROC, "free": 50_000_000_000, "storage": str(tmp_path)}
    monkeypatch.setattr(preflight, "_read", lambda path: values.get(path, ""))
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, values["free"]))
    monkeypatch.setattr("sys.platform", "linux")
    return values


def engine(machine: dict[str, Any], info: str = PODMAN, name: str = "podman") -> Engine:
    return Engine(name, info=info.format(storage=machine["storage"]))


def levels(checks: list[preflight.Check]) -> dict[str, str]:
    return {check.name: check.level for check in checks}


def test_all_is_well(machine: dict[str, Any]) -> None:
    checks = preflight.host(engine(machine), (1, 34), None)
    assert levels(checks) == dict.fromkeys(["cgroup", "disk", "memory", "inotify"], OK)
    assert preflight.worst(checks) == OK
    checks = preflight.host(engine(machine, DOCKER, "docker"), (1, 36), None)
    assert checks[0].line == "v2"


@pytest.mark.parametrize(
    ("what", "value", "name", "level", "slug"),
    [
        ("free", 100_000_000, "disk", FAIL, "disk-full"),
        ("free", 2_000_000_000, "disk", WARN, "disk-low"),
        ("/proc/meminfo", "MemAvailable: 900000 kB", "memory", WARN, "memory-low"),
        ("/proc/sys/fs/inotify/max_user_instances", "128", "inotify", WARN, "inotify-low"),
        ("/proc/sys/fs/inotify/max_user_watches", "8192", "inotify", WARN, "inotify-low"),
    ],
)
def test_something_is_short(
    machine: dict[str, Any], what: str, value: Any, name: str, level: str, slug: str
) -> None:
    machine[what] = value
    checks = preflight.host(engine(machine), None, None)
    (found,) = [check for check in checks if check.level != OK]
    assert (found.name, found.level, found.slug) == (name, level, slug)
    assert found.remedy
    assert preflight.worst(checks) == level


@pytest.mark.parametrize("user", [0, 1000])
def test_keys(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    machine["/proc/sys/kernel/keys/maxkeys"] = "200"
    found = levels(preflight.host(engine(machine), None, None))
    assert found.get("keys") == (WARN if user else None)


def test_cgroup_against_the_node_image(machine: dict[str, Any], tmp_path: Path) -> None:
    def of(version: tuple[int, int] | None, config: Path | None = None) -> preflight.Check:
        return preflight.host(engine(machine), version, config)[0]

    assert of((1, 34)).level == OK
    assert of(None).level == OK
    assert (of((1, 35)).level, of((1, 35)).slug) == (FAIL, "kubelet-refuses-cgroup-v1")
    assert of((2, 0)).level == FAIL
    patched = tmp_path / "kind.yaml"
    patched.write_text("kubeadmConfigPatches: ['failCgroupV1: false']")
    assert of((1, 35), patched).level == OK
    rootless = engine(machine, PODMAN.replace("rootless: false", "rootless: true"))
    assert preflight.host(rootless, None, None)[0].slug == "rootless-needs-cgroup-v2"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("kindest/node:v1.34.0", (1, 34)),
        ("kindest/node:v1.35.0@sha256:00", (1, 35)),
        ("localhost/kindcov-node:v1.34.4-ab1febb28a3c", (1, 34)),
        ("localhost/kindcov-node:latest", None),
        ("", None),
    ],
)
def test_version_of_an_image(image: str, version: tuple[int, int] | None) -> None:
    assert preflight.kubernetes_of(image) == version


def test_engine_elsewhere_has_limits_of_its_own(machine: dict[str, Any]) -> None:
    machine |= {"storage": "/nowhere", "free": 0}
    assert list(levels(preflight.host(engine(machine), None, None))) == ["cgroup"]
    assert list(levels(preflight.host(Engine("podman"), None, None))) == ["cgroup"]


CONFIG = """
networking: {{apiServerPort: {api}}}
nodes:
- role: control-plane
  extraPortMappings:
  - {{containerPort: 80, hostPort: {port}, listenAddress: 127.0.0.1}}
  - {{containerPort: 81, hostPort: 0}}
  - {{containerPort: 82, hostPort: {port}, protocol: UDP}}
"""


def test_ports(tmp_path: Path) -> None:
    config = tmp_path / "kind.yaml"
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        port, other = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        config.write_text(CONFIG.format(api=-1, port=port))
        found = preflight.ports(config)
        assert (found.level, found.slug) == (FAIL, "port-taken")
        assert found.line == f"in use: 127.0.0.1:{port}"
        config.write_text(CONFIG.format(api=port, port=other))
        assert preflight.ports(config).level == FAIL
        config.write_text(CONFIG.format(api=0, port=other))
        assert preflight.ports(config).line == "1 published, all free"


@pytest.mark.parametrize(
    "text", ["[", "- 1", "nodes: 7", "nodes: [1]", "networking: {apiServerPort: x}", "\xff\x00"]
)
def test_odd_config_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "kind.yaml"
    config.write_bytes(text.encode("latin-1"))
    found = preflight.ports(config)
    assert (found.level, found.slug) == (FAIL, "kind-config-invalid")
    assert str(config) in found.line
    assert "\n" not in found.line
    assert preflight.ports(tmp_path / "none.yaml").level == FAIL


def test_create_stops_before_kind(
    machine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "clusters", lambda self: {})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    kind = tmp_path / "kind"
    kind.write_text("#!/bin/sh\ntouch $0.called\nexit 1\n")
    kind.chmod(0o755)
    cluster = KindCluster(
        "x",
        tmp_path / "kubeconfig",
        image="kindest/node:v1.35.0",
        kind_path=kind,
        engine=engine(machine),
    )
    with pytest.raises(ClusterError, match="kubelet-refuses-cgroup-v1") as caught:
        cluster.create()
    assert "the node image has Kubernetes 1.35" in caught.value.cause
    assert not cluster.created
    assert not (tmp_path / "kind.called").exists()
    assert not (tmp_path / "state").exists()


def test_doubts_are_named_when_kind_fails(
    machine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["free"] = 1_000_000_000
    monkeypatch.setattr(Engine, "clusters", lambda self: {})
    monkeypatch.setattr(Engine, "nodes", lambda self, cluster: [])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    kind = tmp_path / "kind"
    kind.write_text("#!/bin/sh\necho ERROR: something new >&2\nexit 1\n")
    kind.chmod(0o755)
    cluster = KindCluster(
        "x", tmp_path / "kubeconfig", image="a:v1.34.0", kind_path=kind, engine=engine(machine)
    )
    with pytest.raises(ClusterError) as caught:
        cluster.create(logs=tmp_path / "logs")
    assert "ERROR: something new" in caught.value.cause
    assert "before it: disk: 1.0 GB free" in caught.value.cause
    assert caught.value.slug == "cluster-not-created"
    assert (
        tmp_path / "state/kindcov/clusters/x.podman.json"
    ).exists()  # it may have left something
