"""Manifests onto the cluster, and the wait until every workload is ready or never will be."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import FIELD_MANAGER, UnknownKind, title
from pytest_kindcov.errors import ClusterError, DeployError
from pytest_kindcov.service import refusals
from pytest_kindcov.service.image import full_name
from pytest_kindcov.service.manifests import pod_template, templates
from pytest_kindcov.service.rollout import select

if TYPE_CHECKING:
    import threading

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.service.manifests import Manifests
    from pytest_kindcov.service.once import Once
    from pytest_kindcov.service.spec import ServiceSpec

# What others refer to comes first; the rest keeps its order. A webhook that is in force before its
# own server runs would refuse the server's pods: it comes last.
_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
)
OWN_LABEL = "app.kubernetes.io/managed-by"
SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces of the cluster itself."""
# Each before what it owns.
_WORKLOADS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
)
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")

_ACCOUNT = 30.0
_DEFINITION = 30.0
# Seconds: a pod's own grace period is 30 unless it says otherwise.
_OLD_GONE = 90.0


@dataclass(frozen=True)
class Workload:
    """A workload whose readiness is waited for."""

    kind: str
    name: str
    namespace: str
    api_version: str
    labels: dict[str, str]
    old: frozenset[str] = frozenset()
    """Ids of pods that it had before: they go, and it is ready with others."""

    @property
    def title(self) -> str:
        """As one names it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Deployed:
    """A service, or a worker's instance of it, that was deployed: what the harvest knows of it."""

    title: str
    image: str
    """Full name of the image."""
    worker: str
    """The xdist worker whose own it is; empty when it is shared."""
    workloads: tuple[tuple[str, str, str], ...]
    """Namespace, kind and name of each workload that runs the image."""
    containers: frozenset[str]
    """Names of the containers that run the image."""
    namespaces: frozenset[str]
    """All namespaces in which it has objects; a worker's are its own alone."""

    @classmethod
    def of(cls, manifests: Manifests, spec: ServiceSpec) -> Deployed:
        """What manifests, as they were applied, say of a service."""
        default = spec.home
        found = [
            ((obj["metadata"].get("namespace") or default, obj["kind"], obj["metadata"]["name"]), c)
            for obj, _, c in manifests.containers()
        ]
        return cls(
            title=spec.title,
            image=full_name(manifests.image),
            worker=spec.worker,
            workloads=tuple(dict.fromkeys(workload for workload, _ in found)),
            containers=frozenset(str(container["name"]) for _, container in found),
            namespaces=frozenset(
                [
                    default,
                    *(
                        str(obj["metadata"].get("namespace") or default)
                        for obj in manifests.objects
                    ),
                ]
            )
            - SYSTEM,
        )


def apply(
    api: Api,
    objects: list[Object],
    spec: ServiceSpec,
    *,
    once: Once | None = None,
    renew: bool = False,
    cancel: threading.Event | None = None,
) -> list[Workload]:
    """Apply objects in an order that works, and return the workloads among them.

    Args:
        api: the cluster.
        objects: whole objects; those without a namespace get the spec's, else `default`.
        spec: the service.
        once: of the run: what services have in common is then applied once.
        renew: whether the workloads may be there already, with pods that are not this run's.
        cancel: when set, waiting is given up.

    """
    ordered = sorted(objects, key=_rank)
    old: dict[int, frozenset[str]] = {}
    lacking = [
        namespace
        for namespace in _namespaces(ordered, spec.home)
        if api.get("v1", "Namespace", namespace["metadata"]["name"], "") is None
    ]
    for obj in [*lacking, *ordered]:

        def act(obj: Object = obj) -> frozenset[str]:
            pods = _old_pods(api, obj, spec.home, cancel) if renew else []
            _apply_one(api, obj, spec.home, cancel)
            return frozenset(pod["uid"] for pod in pods)

        old[id(obj)] = once(f"object {spec.home} {text_of(obj)}", act) if once else act()
    return [
        replace(workload, old=old[id(obj)])
        for workload, (obj, _) in zip(
            workloads(objects, spec.home), templates(objects), strict=True
        )
    ]


def workloads(objects: list[Object], default: str) -> list[Workload]:
    """The workloads among objects; those that name no namespace are in the default one."""
    return [
        Workload(
            kind=obj["kind"],
            name=obj["metadata"]["name"],
            namespace=obj["metadata"].get("namespace") or default,
            api_version=obj["apiVersion"],
            labels=(template.get("metadata") or {}).get("labels") or {},
        )
        for obj, template in templates(objects)
    ]


def text_of(obj: Object) -> str:
    """An object as text, equal for equal objects; YAML may hold dates."""
    return json.dumps(obj, sort_keys=True, default=str)


def _old_pods(
    api: Api, obj: Object, namespace: str, cancel: threading.Event | None
) -> list[Object]:
    """The metadata of the pods that a workload has; one that cannot be changed is deleted."""
    if pod_template(obj) is None:
        return []
    name, where = obj["metadata"]["name"], obj["metadata"].get("namespace") or namespace
    now = api.get(obj["apiVersion"], obj["kind"], name, where)
    if now is None:
        return []
    if obj["kind"] in ("Pod", "Job"):
        api.note(obj, where)
        api.delete(obj["apiVersion"], obj["kind"], name, where)
        wait_until(
            lambda: api.get(obj["apiVersion"], obj["kind"], name, where) is None,
            what=f"{title(now)}, which was there before, being gone",
            timeout=_OLD_GONE,
            slug="old-pod-stays",
            cancel=cancel,
            error=DeployError,
        )
        return []
    selector = ((now.get("spec") or {}).get("selector") or {}).get("matchLabels")
    return [pod["metadata"] for pod in select(api, where, selector)] if selector else []


def clear(api: Api) -> None:
    """Delete the workloads and the addresses that earlier runs made.

    All else stays, for it is applied again; but a namespace of ours in which a function of the user
    or a test made workloads goes whole: what else they made there is not known.
    """
    for service in api.list("v1", "Service", None, f"{OWN_LABEL}={FIELD_MANAGER}"):
        metadata = service["metadata"]
        api.delete("v1", "Service", metadata["name"], metadata["namespace"])
    labelled = api.list("v1", "Namespace", None, f"{OWN_LABEL}={FIELD_MANAGER}")
    made = {namespace["metadata"]["name"] for namespace in labelled}
    doomed: set[str] = set()
    spoilt: set[str] = set()

    def gone() -> bool:
        """Owners first, so that nothing comes back; pods are not waited for by their nodes."""
        left = False
        for api_version, kind in _WORKLOADS:
            for obj in api.list(api_version, kind):
                metadata = obj["metadata"]
                owned_by = {owner["uid"] for owner in metadata.get("ownerReferences") or []}
                if metadata["uid"] in doomed or owned_by & doomed or _is_ours(obj):
                    left = True
                    doomed.add(metadata["uid"])
                    api.delete(api_version, kind, metadata["name"], metadata["namespace"], grace=0)
                elif not owned_by and metadata["namespace"] in made - spoilt:
                    spoilt.add(metadata["namespace"])
                    api.delete("v1", "Namespace", metadata["namespace"], "")
        return not left and not any(api.get("v1", "Namespace", name, "") for name in spoilt)

    wait_until(
        gone,
        what="the earlier run's workloads being gone",
        timeout=_OLD_GONE,
        interval=0.05,
        slug="old-pod-stays",
        error=DeployError,
    )


def _is_ours(obj: Object) -> bool:
    return any(
        entry.get("manager") == FIELD_MANAGER
        for entry in obj["metadata"].get("managedFields") or []
    )


def _rank(obj: Object) -> int:
    kind = obj["kind"]
    if kind in _FIRST:
        return _FIRST.index(kind)
    return len(_FIRST) + (1 if kind in _LAST else 0)


def _namespaces(objects: list[Object], default: str) -> list[Object]:
    """The namespaces that the objects live in and that no manifest makes."""
    own = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"}
    wanted = {obj["metadata"].get("namespace") for obj in objects} | {default}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {OWN_LABEL: FIELD_MANAGER}},
        }
        for name in sorted(filter(None, wanted - own - {"default", "kube-system"}))
    ]


def _apply_one(api: Api, obj: Object, namespace: str, cancel: threading.Event | None) -> None:
    if obj["kind"] == "Pod":
        # A pod without its service account is refused for good; controllers try again.
        where = obj["metadata"].get("namespace") or namespace
        account = obj["spec"].get("serviceAccountName") or "default"
        wait_until(
            lambda: api.get("v1", "ServiceAccount", account, where),
            what=f"ServiceAccount {where}/{account}",
            timeout=_ACCOUNT,
            slug="service-account-missing",
            cancel=cancel,
            error=DeployError,
        )

    deadline = time.monotonic() + _DEFINITION

    def applied() -> bool:
        try:
            api.apply(obj, namespace)
        except UnknownKind:
            # A definition that was applied a moment ago is served a little later.
            if obj["apiVersion"].partition("/")[0] not in _defined(api) or (
                time.monotonic() > deadline
            ):
                raise
            return False
        except ClusterError as error:
            if obj["kind"] == "Pod" and "forbidden" in error.cause:
                fault = refusals.refusal(title(obj), error.cause)
                raise DeployError(
                    error.what, cause=error.cause, remedy=fault.remedy, slug=fault.slug
                ) from error
            raise
        return True

    wait_until(
        applied,
        what=f"{title(obj)} applied",
        timeout=2 * _DEFINITION,
        slug="definition-not-served",
        cancel=cancel,
    )


def _defined(api: Api) -> set[str]:
    found = api.list("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    return {definition["spec"]["group"] for definition in found}
