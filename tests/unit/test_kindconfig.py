"""The config that kind makes a cluster from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from pytest_kindcov.cluster import kindconfig

if TYPE_CHECKING:
    from pathlib import Path


def written(tmp_path: Path, *, published: bool = False) -> dict[str, Any]:
    output = tmp_path / "kind.yaml"
    assert kindconfig.write(None, output, published=published) == output
    config: dict[str, Any] = yaml.safe_load(output.read_text())
    return config


def test_a_new_cluster_is_ready_sooner(tmp_path: Path) -> None:
    config = written(tmp_path)
    patches = [yaml.safe_load(patch) for patch in config["kubeadmConfigPatches"]]
    assert [patch["kind"] for patch in patches] == [
        "ClusterConfiguration",
        "KubeProxyConfiguration",
    ]
    # With a version they would hold for clusters of that one only.
    assert not any("apiVersion" in patch for patch in patches)
    assert "nodes" not in config


def test_ports(tmp_path: Path) -> None:
    (node,) = written(tmp_path, published=True)["nodes"]
    assert [each["containerPort"] for each in node["extraPortMappings"]] == [*kindconfig.FORWARDED]
    assert {each["listenAddress"] for each in node["extraPortMappings"]} == {"127.0.0.1"}


def test_a_given_config_is_taken_as_it_is(tmp_path: Path) -> None:
    given = tmp_path / "given.yaml"
    given.write_text("kind: Cluster\nnodes: [{role: worker}, {role: control-plane}]\n")
    output = tmp_path / "kind.yaml"
    assert kindconfig.write(given, output, published=False) == given
    assert not output.exists()
    assert kindconfig.write(given, output, published=True) == output
    config = yaml.safe_load(output.read_text())
    worker, first = config["nodes"]
    assert "extraPortMappings" not in worker
    assert len(first["extraPortMappings"]) == len(kindconfig.FORWARDED)
    assert "kubeadmConfigPatches" not in config
