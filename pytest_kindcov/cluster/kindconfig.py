"""The config file that kind makes a cluster from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FORWARDED = range(30950, 30966)
"""Node ports published on the host where node addresses cannot be reached: one for each service."""
# The controller manager begins with some hundred requests, of which it allows itself 20 a second,
# and looks once in two seconds whether it may begin. With these, nodes were Ready 14.1 s after the
# start of `kind create`, without them after 16.9 s (2 processors, medians of 2). Without apiVersion
# kind merges them into each of kubeadm's; from v1beta4 on, where arguments are a list, kind 0.33
# does (its pkg/internal/patch/kubeadm_merge.go).
_CONTROL_PLANE = """
kind: ClusterConfiguration
controllerManager:
  extraArgs:
    kube-api-qps: "500"
    kube-api-burst: "1000"
    leader-elect-retry-period: 500ms
scheduler:
  extraArgs:
    leader-elect-retry-period: 500ms
"""
# kube-proxy waits for a second after a change, and 0 means that too: a service that was ready was
# reached 1.3 s later.
_PROXY = """
kind: KubeProxyConfiguration
iptables:
  minSyncPeriod: 50ms
"""


def write(given: str | Path | None, output: Path, *, published: bool) -> str | Path:
    """The config file for a new cluster.

    A given one is taken as it is, but for the ports. Without one, the cluster is kind's own, made
    to be ready sooner.

    Args:
        given: the user's.
        output: where another one is written, if need be.
        published: whether the first control plane publishes `FORWARDED` on free ports of 127.0.0.1.

    Returns:
        The file to use.

    """
    if given and not published:
        return given
    config: dict[str, Any] = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
    if given:
        config = yaml.safe_load(Path(given).read_text()) or config
    else:
        config["kubeadmConfigPatches"] = [_CONTROL_PLANE, _PROXY]
    if published:
        nodes = config.setdefault("nodes", [{"role": "control-plane"}])
        first = next((node for node in nodes if node.get("role") == "control-plane"), nodes[0])
        mappings = first.setdefault("extraPortMappings", [])
        mappings += [
            {"containerPort": port, "hostPort": 0, "listenAddress": "127.0.0.1"}
            for port in FORWARDED
        ]
    output.write_text(yaml.safe_dump(config))
    return output
