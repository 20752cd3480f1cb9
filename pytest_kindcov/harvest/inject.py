"""GOCOVERDIR for every container, given at the node: no manifest, image or service changes.

containerd's base runtime specification (cri-base.json in Kind's nodes) gets the variable and a hook
that gives each container a directory of its own. A container that sets its own GOCOVERDIR keeps it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.node import Node

BASE = "/var/lib/kindcov"
"""On the node: /tmp and /run are lost in memory file systems, /var is a volume."""
INSIDE = "/kindcov"
"""In the container: directly under the root, so that no symbolic link of an image stands before."""
_HOOK = f"{BASE}/hook"
_SAVED = f"{BASE}/cri-base.json.before"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIND_SPEC = (
    "sed -n 's/^[[:space:]]*base_runtime_spec *= *\"\\(.*\\)\".*/\\1/p' /etc/containerd/config.toml"
    " | head -n 1"
)


def inject(nodes: list[Node]) -> None:
    """Make all nodes give GOCOVERDIR to containers that start from now on.

    containerd is restarted, which takes 0.4 s and leaves running pods alone.
    """
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(_inject, nodes))


def remove(nodes: list[Node]) -> None:
    """Give the nodes back as they were; data and hook are deleted."""
    for node in nodes:
        path = _spec_path(node)
        node.script(
            f'[ -e {_SAVED} ] && cp -p {_SAVED} "$1" && systemctl restart containerd;'
            f" rm -rf {BASE}",
            path,
        )


def edited(spec: dict[str, Any]) -> dict[str, Any]:
    """A base runtime specification with the variable and the hook; idempotent."""
    process = dict(spec.get("process") or {})
    env = [item for item in process.get("env") or [] if not item.startswith("GOCOVERDIR=")]
    process["env"] = [*env, f"GOCOVERDIR={INSIDE}"]
    hooks = dict(spec.get("hooks") or {})
    others = [hook for hook in hooks.get("createContainer") or [] if hook.get("path") != _HOOK]
    hooks["createContainer"] = [*others, {"path": _HOOK, "args": [_HOOK], "env": [_PATH]}]
    return {**spec, "process": process, "hooks": hooks}


def _inject(node: Node) -> None:
    path = _spec_path(node)
    text = node.read(path)
    if text is None:
        raise ClusterError(
            f"node {node.name} has no {path}",
            cause="its containerd config names it, but it is gone",
        )
    hook = resources.files(__package__).joinpath("hook.sh").read_bytes()
    node.write(_HOOK, hook, mode="0755")
    node.script(f'[ -e {_SAVED} ] || cp -p "$1" {_SAVED}', path)
    node.write(path, json.dumps(edited(json.loads(text))).encode())
    node.script(f"systemctl restart containerd && chmod 0700 {BASE}")


def _spec_path(node: Node) -> str:
    path = node.run(["bash", "-c", _FIND_SPEC]).text.strip()
    if not path:
        raise ClusterError(
            f"node {node.name}: coverage cannot be injected",
            cause="its containerd has no base_runtime_spec in /etc/containerd/config.toml",
            remedy="use a node image of kind 0.20 or newer",
        )
    return path
