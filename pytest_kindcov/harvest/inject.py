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
    from pytest_kindcov.service.deploy import Deployed

BASE = "/var/lib/kindcov"
"""On the node: /tmp and /run are lost in memory file systems, /var is a volume."""

# All in one round trip. The original is kept beside the script, which finds it there. What earlier
# runs left in the directory is theirs: this run's data must be its own.
_INJECT = f"""
set -e
runc=$(command -v runc) && command -v jq > /dev/null
rm -rf {BASE} || [ -z "$(ls -A {BASE})" ] # it may be a file system of its own
mkdir -p {BASE}/containers && chmod 0700 {BASE}
base64 -d <<< "$1" > "$runc.kindcov" && chmod 0755 "$runc.kindcov"
[ -z "$2" ] || : > {BASE}/wanted
[ -e "$runc.before-kindcov" ] || cp -p "$runc" "$runc.before-kindcov"
mv -f "$runc.kindcov" "$runc"
"""
# Lines of runc.sh's list: NAMESPACE IMAGE, or NAMESPACE - CONTAINER and the start of a pod's name.
_WANT = f"""
printf '%s\\n' "$@" >> {BASE}/wanted
"""
_WITHDRAW = """
runc=$(command -v runc)
[ ! -e "$runc.before-kindcov" ] || mv -f "$runc.before-kindcov" "$runc"
"""
# A container that goes on, nobody's of ours, has its directory mounted: under a directory that is
# removed its program could write nothing. Without the mount it has what it would have had.
_REMOVE = f"""
[ -d {BASE} ] || exit 0
if command -v perl > /dev/null; then perl -e "$1" {BASE}; fi
mounted=$(cat /proc/[0-9]*/mountinfo 2> /dev/null)
for directory in {BASE}/containers/*/; do
  id=$(basename "$directory")
  [[ $mounted == *"/kindcov/containers/$id/data "* ]] || rm -rf "$directory"
done
rmdir {BASE}/containers 2> /dev/null && rm -rf {BASE}
true
"""


def inject(nodes: list[Node], *, listed: bool = False) -> None:
    """Make all nodes give GOCOVERDIR to containers that are created from now on.

    Args:
        nodes: all of the cluster.
        listed: only to those of services that `want` names: on a cluster that others use too.

    Raises:
        ClusterError: a node has no runc or no jq, which all of Kind's have.

    """
    on_all(nodes, lambda node: _inject(node, listed=listed))


def want(nodes: list[Node], service: Deployed) -> None:
    """Let the containers of a service have it, where only those do that are named.

    A container counts if it is of the image, in a namespace of the service, or of its workloads.
    """
    lines = [f"{namespace} {service.image}" for namespace in sorted(service.namespaces)]
    lines += [
        f"{namespace} - {container} {name}"
        for namespace, _, name in service.workloads
        for container in sorted(service.containers)
    ]
    on_all(nodes, lambda node: node.script(_WANT, *lines))


def withdraw(nodes: list[Node]) -> None:
    """Give containers that are created from now on nothing; the data stay.

    Before services are stopped on a cluster that goes on: what comes in their place is as it was.
    """
    on_all(nodes, lambda node: node.script(_WITHDRAW))


def remove(nodes: list[Node]) -> None:
    """Give the nodes back as they were; the data on them is deleted."""
    script = resources.files(__package__).joinpath("unmount.pl").read_text()
    withdraw(nodes)
    on_all(nodes, lambda node: node.script(_REMOVE, script))


def _inject(node: Node, *, listed: bool) -> None:
    script = resources.files(__package__).joinpath("runc.sh").read_bytes()
    try:
        node.script(_INJECT, base64.b64encode(script).decode(), "listed" if listed else "")
    except CommandError as error:
        raise ClusterError(
            f"node {node.name}: coverage cannot be injected",
            cause=str(error),
            remedy="the node needs runc, jq and bash, as Kind's node images have them; on other"
            " clusters --kind-coverage-sidecar does without the nodes",
            slug="node-not-prepared",
        ) from error
