"""GOCOVERDIR for every container, given at the node: no manifest, image or service changes.

A script stands in runc's place and edits the config.json of each container that is created. Nothing
is restarted: a containerd that is restarted while a cluster comes up loses the containers that it
was about to create, and was seen to keep kube-proxy away for a minute.
"""

from __future__ import annotations

import base64
from importlib import resources
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.node import Node, on_all
from pytest_kindcov.errors import ClusterError, CommandError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.node import Node

BASE = "/var/lib/kindcov"
"""On the node: /tmp and /run are lost in memory file systems, /var is a volume."""

# All in one round trip. The original is kept beside the script, which finds it there.
_INJECT = f"""
set -e
runc=$(command -v runc) && command -v jq > /dev/null
mkdir -p {BASE}/containers && chmod 0700 {BASE}
base64 -d <<< "$1" > "$runc.kindcov" && chmod 0755 "$runc.kindcov"
[ -e "$runc.before-kindcov" ] || cp -p "$runc" "$runc.before-kindcov"
mv -f "$runc.kindcov" "$runc"
"""
_REMOVE = f"""
runc=$(command -v runc)
[ ! -e "$runc.before-kindcov" ] || mv -f "$runc.before-kindcov" "$runc"
rm -rf {BASE}
"""


def inject(nodes: list[Node]) -> None:
    """Make all nodes give GOCOVERDIR to containers that are created from now on.

    Raises:
        ClusterError: a node has no runc or no jq, which all of Kind's have.

    """
    on_all(nodes, _inject)


def remove(nodes: list[Node]) -> None:
    """Give the nodes back as they were; the data on them is deleted."""
    for node in nodes:
        node.script(_REMOVE)


def _inject(node: Node) -> None:
    script = resources.files(__package__).joinpath("runc.sh").read_bytes()
    try:
        node.script(_INJECT, base64.b64encode(script).decode())
    except CommandError as error:
        raise ClusterError(
            f"node {node.name}: coverage cannot be injected",
            cause=str(error),
            remedy="the node needs runc, jq and bash, as Kind's node images have them",
            slug="node-not-prepared",
        ) from error
