"""The script in runc's place, with real bash and jq on bundles as containerd writes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "pytest_kindcov/harvest/runc.sh"
ID = "c" * 64


class Node:
    """A directory that stands for the node's file system."""

    def __init__(self, root: Path) -> None:
        self.base = root / "kindcov"
        self.base.mkdir()
        self.runc = root / "runc"
        self.runc.write_text(SCRIPT.read_text().replace("/var/lib/kindcov", str(self.base)))
        real = root / "runc.before-kindcov"
        real.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        for program in (self.runc, real):
            program.chmod(0o755)
        self.bundle = root / "bundle" / ID
        (self.bundle / "rootfs").mkdir(parents=True)

    def create(self, **config: Any) -> dict[str, Any]:
        """Run `runc create` as containerd's shim does and return the config that runc sees."""
        path = self.bundle / "config.json"
        path.write_text(json.dumps(config))
        args = ["--root", "/run/x", "--systemd-cgroup", "create", "--bundle", str(self.bundle), ID]
        done = subprocess.run([self.runc, *args], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == args
        seen: dict[str, Any] = json.loads(path.read_text())
        return seen

    @property
    def data(self) -> Path:
        return self.base / "containers" / ID / "data"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed here; the cluster tests run the script on a node")
    return Node(tmp_path)


CONTAINER = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-name": "p"}


def test_container_gets_a_directory(node: Node) -> None:
    seen = node.create(
        annotations=CONTAINER, process={"env": ["A=1"], "args": ["x"]}, mounts=[{"source": "proc"}]
    )
    assert seen["process"] == {"env": ["A=1", "GOCOVERDIR=/kindcov"], "args": ["x"]}
    assert seen["mounts"][0] == {"source": "proc"}
    assert seen["mounts"][1]["destination"] == "/kindcov"
    assert seen["mounts"][1]["source"] == str(node.data)
    assert node.data.stat().st_mode & 0o7777 == 0o1777
    state = json.loads((node.data.parent / "state.json").read_text())
    assert state["annotations"]["io.kubernetes.cri.sandbox-name"] == "p"


def test_container_without_environment_or_mounts(node: Node) -> None:
    seen = node.create(annotations=CONTAINER, process={})
    assert seen["process"]["env"] == ["GOCOVERDIR=/kindcov"]
    assert len(seen["mounts"]) == 1


def test_sandbox_is_left_alone(node: Node) -> None:
    config = {"annotations": {"io.kubernetes.cri.container-type": "sandbox"}, "process": {}}
    assert node.create(**config) == config
    assert not node.data.exists()


def test_own_choice_is_kept(node: Node) -> None:
    seen = node.create(annotations=CONTAINER, process={"env": ["GOCOVERDIR=/cov", "B=2"]})
    assert seen["process"]["env"] == ["B=2", "GOCOVERDIR=/cov"]
    assert seen["mounts"][0]["destination"] == "/cov"


def test_own_directory_with_other_files_is_left_alone(node: Node, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "covmeta.0").touch()
    mount = {"destination": "/data", "source": str(volume)}
    process = {"env": ["GOCOVERDIR=/data"]}
    assert len(node.create(annotations=CONTAINER, process=process, mounts=[mount])["mounts"]) == 2
    (volume / "database").touch()
    assert node.create(annotations=CONTAINER, process=process, mounts=[mount])["mounts"] == [mount]


def test_broken_bundle_still_runs(node: Node) -> None:
    (node.bundle / "config.json").write_text("not json")
    args = ["create", "--bundle", str(node.bundle), ID]
    done = subprocess.run([node.runc, *args], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == args
    assert (node.bundle / "config.json").read_text() == "not json"


@pytest.mark.parametrize("args", [["state", ID], ["--version"], ["create"], ["kill", "a b", "*"]])
def test_other_commands_pass_through(node: Node, args: list[str]) -> None:
    done = subprocess.run([node.runc, *args], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == args
    assert list(node.base.iterdir()) == []


def listed(namespace: str, image: str, container: str, pod: str) -> dict[str, str]:
    values = {
        "sandbox-namespace": namespace,
        "image-name": image,
        "container-name": container,
        "sandbox-name": pod,
    }
    return CONTAINER | {f"io.kubernetes.cri.{key}": value for key, value in values.items()}


@pytest.mark.parametrize(
    ("annotations", "given"),
    [
        (listed("shop", "r.example/web:1", "any", "made-by-an-operator"), True),
        (listed("shop", "r.example/same:2", "web", "web-5d4-x2"), True),
        (listed("shop", "r.example/same:2", "web", "web"), True),
        (listed("shop", "r.example/same:2", "web", "webs-5d4-x2"), False),
        (listed("shop", "r.example/same:2", "sidecar", "web-5d4-x2"), False),
        (listed("theirs", "r.example/web:1", "web", "web-5d4-x2"), False),
        (CONTAINER, False),
    ],
)
def test_only_those_on_the_list(node: Node, annotations: dict[str, str], given: bool) -> None:
    """On a cluster that others use too, their containers are as they always were."""
    (node.base / "wanted").write_text("other - web web\nshop r.example/web:1\nshop - web web\n")
    config = {"annotations": annotations, "process": {"env": ["A=1"]}}
    seen = node.create(**config)
    assert (seen != config) == given
    assert node.data.exists() == given


def test_nobody_is_on_an_empty_list(node: Node) -> None:
    (node.base / "wanted").touch()
    config = {"annotations": listed("", "", "", ""), "process": {}}
    assert node.create(**config) == config
