"""The config that kind makes a cluster from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kindcov.cluster import kindconfig

if TYPE_CHECKING:
    from pathlib import Path

OURS = "localhost/kindcov-node:v1.34.4-0123456789ab"


def written(tmp_path: Path, image: str = OURS, *, published: bool = False) -> dict[str, Any]:
    output = tmp_path / "kind.yaml"
    assert kindconfig.write(None, output, image=image, published=published) == output
    config: dict[str, Any] = yaml.safe_load(output.read_text())
    return config


def kinds(config: dict[str, Any]) -> list[str]:
    return [yaml.safe_load(patch)["kind"] for patch in config["kubeadmConfigPatches"]]


@pytest.mark.parametrize(
    "image", [OURS, "kindest/node:v1.35.0@sha256:" + "0" * 64, "registry.example:5000/node:v1.31.2"]
)
def test_a_new_cluster_is_ready_sooner(image: str, tmp_path: Path) -> None:
    config = written(tmp_path, image)
    assert kinds(config) == ["ClusterConfiguration", "KubeProxyConfiguration"]
    assert "nodes" not in config


@pytest.mark.parametrize(
    "image", ["", "kindest/node:v1.36.0", "kindest/node:latest", "kindest/node@sha256:" + "0" * 64]
)
def test_arguments_are_left_where_kubeadm_may_want_them_as_a_list(
    image: str, tmp_path: Path
) -> None:
    """They could not be merged, and kubeadm would fail."""
    assert kinds(written(tmp_path, image)) == ["KubeProxyConfiguration"]


def test_ports(tmp_path: Path) -> None:
    (node,) = written(tmp_path, published=True)["nodes"]
    assert [each["containerPort"] for each in node["extraPortMappings"]] == [*kindconfig.FORWARDED]
    assert {each["listenAddress"] for each in node["extraPortMappings"]} == {"127.0.0.1"}


def test_a_given_config_is_taken_as_it_is(tmp_path: Path) -> None:
    given = tmp_path / "given.yaml"
    given.write_text("kind: Cluster\nnodes: [{role: worker}, {role: control-plane}]\n")
    output = tmp_path / "kind.yaml"
    assert kindconfig.write(given, output, image=OURS, published=False) == given
    assert not output.exists()
    assert kindconfig.write(given, output, image=OURS, published=True) == output
    config = yaml.safe_load(output.read_text())
    worker, first = config["nodes"]
    assert "extraPortMappings" not in worker
    assert len(first["extraPortMappings"]) == len(kindconfig.FORWARDED)
    assert "kubeadmConfigPatches" not in config
