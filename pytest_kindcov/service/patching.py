"""Workloads that give their own coverage away, for clusters whose nodes cannot be reached.

Each container of the service gets GOCOVERDIR in a volume of its own, which goes with the pod. So a
sidecar reads it: Kubernetes ends a sidecar after the containers that it is for, when these have
written their counters. PodSecurity *restricted* admits all of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_kindcov.errors import DeployError
from pytest_kindcov.service.image import NONROOT
from pytest_kindcov.service.manifests import Manifests, all_containers

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

LABEL = "kindcov/files"
"""Of pods that have the sidecar."""
CONTAINERS = "kindcov/containers"
"""The annotation that names the containers whose files the volumes 0, 1, … are for, as JSON."""
SIDECAR = "kindcov"
BASE = "/kindcov"
"""Where the files are: in the sidecar under the number of the container."""
STATE = "state"
ENDED = f"{STATE}/ended"
"""In the sidecar: the containers have ended."""
DONE = f"{STATE}/done"
"""In the sidecar: it may end too."""
# As process 1 it gets those signals alone that it asks for.
_WAIT = f"""
trap ': > {BASE}/{ENDED}' TERM
while [ ! -e {BASE}/{DONE} ]; do sleep 1 & wait; done
"""
# Seconds. The sidecar has what the containers left of their grace period.
_GRACE = 30
_ENOUGH = 15


def patch(manifests: Manifests, spec: ServiceSpec, image: str) -> None:
    """Change the workloads that run the service's image.

    Args:
        manifests: whose objects are changed.
        spec: the service.
        image: of the sidecar; has `sh`, `sleep` and `tar`.

    Raises:
        DeployError: there are none: what an operator makes, only it could change.

    """
    found = {id(template): template for _, template, _ in manifests.containers()}
    if not found:
        raise DeployError(
            f"service {spec.title}: its coverage cannot be had on this cluster",
            cause="nodes cannot be reached, so workloads must be changed, and no manifest has any",
            remedy="give its workloads in manifests=, or let us make privileged pods",
            slug="workload-not-patchable",
        )
    for _, _, container in manifests.containers():
        container["env"] = [
            each for each in container.get("env") or [] if each.get("name") != "GOCOVERDIR"
        ] + [{"name": "GOCOVERDIR", "value": BASE}]
    wanted = {id(container) for _, _, container in manifests.containers()}
    for template in found.values():
        own = [each for each in all_containers(template) if id(each) in wanted]
        _patch(template, own, image)


def _patch(template: Object, own: list[Object], image: str) -> None:
    for number, container in enumerate(own):
        mounts = container.setdefault("volumeMounts", [])
        mounts.append({"name": f"kindcov-{number}", "mountPath": BASE})
    names = [*map(str, range(len(own))), STATE]
    spec, metadata = template["spec"], template.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), LABEL: "yes"}
    told = json.dumps([container["name"] for container in own])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CONTAINERS: told}
    spec["volumes"] = [
        *(spec.get("volumes") or []),
        *({"name": f"kindcov-{name}", "emptyDir": {}} for name in names),
    ]
    grace = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = max(_GRACE if grace is None else grace, _ENOUGH)
    user = (spec.get("securityContext") or {}).get("runAsUser") or NONROOT
    sidecar: Object = {
        "name": SIDECAR,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["sh", "-c", _WAIT],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": f"kindcov-{name}", "mountPath": f"{BASE}/{name}"} for name in names
        ],
    }
    # First: init containers of the service have files too.
    spec["initContainers"] = [sidecar, *(spec.get("initContainers") or [])]
