"""All of a cluster that a run could change, to be compared before and after."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

State = dict[str, Any]

_KINDS = "ns,deploy,rs,pod,svc,cm,secret,sa,clusterrole,clusterrolebinding,crd,pvc,pv"
# What a run puts on a node, and where it changes something for a while.
_NODE = (
    'cd "$(dirname "$(command -v runc)")" && ls -l runc* && sha256sum runc*;'
    " ls -d /var/lib/kindcov /var/lib/kindcov/*; cat /proc/[0-9]*/mountinfo"
    " | grep -c kindcov; true"
)


def state(kubectl: Callable[..., str], nodes: dict[str, Callable[..., str]]) -> State:
    """All of it, but for what changes by itself.

    Args:
        kubectl: runs it and returns what it printed.
        nodes: by name, what runs a command on the node and returns what it printed.

    """
    found = json.loads(kubectl("get", _KINDS, "-A", "-o", "json", "--show-managed-fields"))
    return {
        "objects": {_title(obj): _lasting(obj) for obj in found["items"]},
        "images": {
            name: sorted(
                " ".join(line.split()[:3:2])
                for line in run("ctr", "-n", "k8s.io", "images", "ls").splitlines()[1:]
            )
            for name, run in nodes.items()
        },
        "nodes": {name: run("bash", "-c", _NODE) for name, run in nodes.items()},
    }


def settled(look: Callable[[], State], before: State) -> State:
    """Its state, as soon as it is what it was or stays another: pods come and go by themselves."""
    deadline = time.monotonic() + 60
    while (after := look()) != before and time.monotonic() < deadline:
        time.sleep(1)
    return after


def _title(obj: dict[str, Any]) -> str:
    metadata = obj["metadata"]
    name = metadata["name"]
    if obj["kind"] == "Pod" and metadata.get("ownerReferences"):
        name = re.sub(r"-[a-z0-9]{5}$", "", name)
    return f"{obj['kind']} {metadata.get('namespace', '')}/{name}"


def _lasting(obj: dict[str, Any]) -> Any:
    """What somebody gave an object, and whose each field is said to be."""
    metadata = obj["metadata"]
    revision = "deployment.kubernetes.io/revision"
    notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if revision not in k}
    managers = [
        (each["manager"], each["operation"], each["fieldsV1"])
        for each in metadata.get("managedFields", [])
        if not each["manager"].startswith(("kube", "kindcov-cni"))
    ]
    given = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    if obj["kind"] == "Pod":
        given = {"images": [each["image"] for each in obj["spec"]["containers"]]}
    return json.loads(json.dumps([metadata.get("labels"), notes, managers, given]))
