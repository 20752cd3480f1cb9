"""Workloads that are on the cluster although no manifest says so: an operator's, a script's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.cluster.api import FIELD_MANAGER
from pytest_kindcov.service.deploy import OWN_LABEL
from pytest_kindcov.service.image import full_name
from pytest_kindcov.service.manifests import all_containers, templates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindcov.cluster.api import Api, Object

API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
    "Pod": "v1",
}
"""Kinds with pods; what makes others stands before them."""
SCALED = ("Deployment", "StatefulSet", "ReplicaSet")
"""Kinds with replicas."""


def running(pod: Object, image: str) -> list[str]:
    """Names of a pod's containers that run an image of this full name."""
    return [
        str(container["name"])
        for container in all_containers(pod)
        if full_name(str(container.get("image", ""))) == image
    ]


def workloads(api: Api, image: str, namespaces: Iterable[str | None]) -> list[Object]:
    """The workloads that run an image, with the Services beside them, as the cluster has them.

    What another of these kinds made (a Deployment's ReplicaSet, a Job's pod) is not named again;
    what an operator made for an object of its own kind is.

    Args:
        api: the cluster.
        image: full name.
        namespaces: where to look; None stands for all.

    """
    found: list[Object] = []
    for namespace in namespaces:
        there = [
            {**obj, "apiVersion": version, "kind": kind}
            for kind, version in API_VERSIONS.items()
            for obj in api.list(version, kind, namespace)
            if not _made_by_others(obj)
        ]
        found += [obj for obj, template in templates(there) if running(template, image)]
    services = [
        {**obj, "apiVersion": "v1", "kind": "Service"}
        for namespace in sorted({obj["metadata"]["namespace"] for obj in found})
        for obj in api.list("v1", "Service", namespace)
        if (obj["metadata"].get("labels") or {}).get(OWN_LABEL) != FIELD_MANAGER
    ]
    return found + services


def _made_by_others(obj: Object) -> bool:
    return any(
        owner.get("controller") and owner.get("kind") in API_VERSIONS
        for owner in obj["metadata"].get("ownerReferences") or []
    )
