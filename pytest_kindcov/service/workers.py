"""A worker's own instance of a service: its manifests, moved to namespaces of the worker's own."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_kindcov.cluster.api import title
from pytest_kindcov.errors import ManifestError
from pytest_kindcov.service.deploy import SYSTEM
from pytest_kindcov.service.manifests import Manifests, all_containers, templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

_LONGEST = 63  # characters of a DNS label, which a namespace's name is
_NAME_LABEL = "kubernetes.io/metadata.name"  # which Kubernetes gives each namespace
_NAMES = ("namespace", _NAME_LABEL)
_LISTS = ("namespaces", "matchNames")  # of affinity terms, and of the Prometheus operator
# Maps whose keys are the user's: a label `namespace: shop` is no reference.
_LABELS = frozenset({"labels", "annotations", "matchLabels", "selector", "nodeSelector"})
_DATA = frozenset({"data", "stringData", "binaryData"})


def instance_name(name: str, worker: str) -> str:
    """A name for a worker's own: `shop-gw0`, cut to 63 characters, different for different input.

    Worker ids are `gw0`, `gw1`, …, unless `--tx popen//id=…` says otherwise.
    """
    plain = re.sub("[^a-z0-9]", "", worker.lower())
    if plain != worker or len(plain) > 20:
        plain = f"{plain[:20]}{_hash(worker)}"
    if len(name) + 1 + len(plain) > _LONGEST:
        plain = f"{_hash(name)}-{plain}"
        name = name[: _LONGEST - len(plain) - 1].rstrip("-.:")
    return f"{name}-{plain}"


def move(
    manifests: Manifests, spec: ServiceSpec, namespaced: Callable[[Object], bool]
) -> tuple[Manifests, list[Object], ServiceSpec]:
    """The manifests of one worker's instance.

    Names of objects stay, so that they find each other by DNS as before; only namespaces differ,
    and what refers to them: `namespace:` fields, namespace selectors, subjects of bindings, and
    host names such as `db.shop.svc` of Services that are among the manifests. What a program is
    told of its namespace by a literal text is left; the downward API tells it right.

    Args:
        manifests: of the service; left as they are.
        spec: of the worker's instance.
        namespaced: whether objects of this kind live in a namespace, asked for kinds that the
            manifests do not define themselves.

    Returns:
        The worker's own objects, the cluster-wide objects that all workers share, and the spec with
        the worker's namespace.

    Raises:
        ManifestError: an object can be there once only, and refers to what each worker has.

    """
    default = spec.namespace or "default"
    scopes = _scopes(manifests.objects)

    def home(obj: Object) -> str:
        """The namespace in which an object lives; empty for a cluster-wide one."""
        scope = scopes.get((obj["apiVersion"].partition("/")[0], obj["kind"]))
        inside = scope == "Namespaced" if scope else namespaced(obj)
        return str(obj["metadata"].get("namespace") or default) if inside else ""

    homes = [home(obj) for obj in manifests.objects]
    made = {obj["metadata"]["name"] for obj in manifests.objects if obj["kind"] == "Namespace"}
    names = {
        name: instance_name(name, spec.worker) for name in {*made, *filter(None, homes)} - SYSTEM
    }
    mover = _Mover(
        names,
        sorted(
            f"{obj['metadata']['name']}.{where}"
            for obj, where in zip(manifests.objects, homes, strict=True)
            if obj["kind"] == "Service" and where in names
        ),
    )
    own: list[Object] = []
    shared: list[Object] = []
    for obj, where in zip(manifests.objects, homes, strict=True):
        binding = obj["apiVersion"].startswith("rbac.") and obj["kind"].endswith("Binding")
        moved = mover.object(obj)
        metadata = moved["metadata"]
        if where in names:
            _refuse_unique(obj, spec)
            metadata["namespace"] = names[where]
            _free_ports(moved)
        elif obj["kind"] == "Namespace" and metadata["name"] in names:
            metadata["name"] = names[metadata["name"]]
        elif binding:
            metadata["name"] = instance_name(metadata["name"], spec.worker)
        elif where in SYSTEM or metadata["name"] in SYSTEM:
            raise _unmovable(spec, obj, f"{where or metadata['name']} is the cluster's own")
        elif obj["kind"] == "PersistentVolume":
            raise _unmovable(spec, obj, "a volume serves one claim, and each worker has its own")
        elif moved != obj:
            raise _unmovable(
                spec,
                obj,
                "there is one for the whole cluster, and it refers to a namespace that each worker"
                f" has for itself ({', '.join(sorted(names))})",
            )
        else:
            shared.append(moved)
            continue
        own.append(moved)
    lived_in = default if default in homes else next(filter(None, homes), default)
    namespace = names.get(lived_in, lived_in)
    return replace(manifests, objects=own), shared, replace(spec, namespace=namespace)


class _Mover:
    """Rewrites references to namespaces."""

    def __init__(self, names: Mapping[str, str], hosts: list[str]) -> None:
        self._names = names
        self._hosts = _host_pattern(hosts) if hosts else None
        known = "|".join(map(re.escape, names))
        self._accounts = re.compile(rf"^(system:serviceaccounts?:)({known})(?=:|$)")

    def object(self, obj: Object) -> Object:
        """A copy whose references lead to the worker's namespaces; its own metadata stays."""
        metadata = copy.deepcopy(obj["metadata"])
        if _NAME_LABEL in (metadata.get("labels") or {}):
            metadata["labels"] = self._labels(metadata["labels"])
        rest = {key: value for key, value in obj.items() if key != "metadata"}
        moved = {key: self._member(key, value) for key, value in rest.items()}
        return {**moved, "metadata": metadata}

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("key") == _NAME_LABEL and isinstance(value.get("values"), list):
                return {**value, "values": [self._name(item) for item in value["values"]]}
            return {key: self._member(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _member(self, key: Any, value: Any) -> Any:
        """What stands under a key."""
        if key in _NAMES and isinstance(value, str):
            return self._name(value)
        if key in _LISTS and isinstance(value, list):
            return [self._name(item) for item in value]
        if key in _LABELS and _flat(value):
            return self._labels(value)
        if key in _DATA and _flat(value):
            return {name: self._text(item) for name, item in value.items()}
        return self._value(value)

    def _labels(self, labels: dict[str, Any]) -> dict[str, Any]:
        return {k: self._name(v) if k == _NAME_LABEL else v for k, v in labels.items()}

    def _name(self, value: Any) -> Any:
        return self._names.get(value, value) if isinstance(value, str) else self._value(value)

    def _text(self, value: Any) -> Any:
        """A text in which host names and accounts lead to the worker's namespaces."""
        if not isinstance(value, str):
            return value
        if self._hosts:
            value = self._hosts.sub(self._host, value)
        return self._accounts.sub(lambda found: found[1] + self._name(found[2]), value)

    def _host(self, found: re.Match[str]) -> str:
        service, _, namespace = found[0].partition(".")
        return f"{service}.{self._names[namespace]}"


def _host_pattern(hosts: list[str]) -> re.Pattern[str]:
    """Host names `SERVICE.NAMESPACE`: before `.svc`, before a port, in a URL, as the whole text.

    A bare `orders.default` inside a longer text may be anything, such as a key of a configuration.
    """
    host = f"(?:{'|'.join(map(re.escape, hosts))})"
    return re.compile(
        rf"(?<![\w-]){host}(?=\.svc(?![\w-])|:\d)"
        rf"|(?:(?<=//)|(?<=@)){host}(?![\w-]|\.\w)"
        rf"|\A{host}\Z"
    )


def _flat(value: Any) -> bool:
    """Whether a value is a map of texts, as labels and data are."""
    return isinstance(value, dict) and not any(isinstance(v, (dict, list)) for v in value.values())


def _scopes(objects: list[Object]) -> dict[tuple[str, str], str]:
    """The scope of each kind that the manifests define: the cluster does not know it yet."""
    return {
        (obj["spec"]["group"], obj["spec"]["names"]["kind"]): obj["spec"].get("scope", "")
        for obj in objects
        if obj["kind"] == "CustomResourceDefinition"
    }


def _refuse_unique(obj: Object, spec: ServiceSpec) -> None:
    """Raise for what only one object of the cluster, or of a node, can have."""
    address = (obj.get("spec") or {}).get("clusterIP") if obj["kind"] == "Service" else None
    if address not in (None, "", "None"):
        raise _unmovable(spec, obj, f"only one Service can have the address {address}")
    for _, template in templates([obj]):
        if template["spec"].get("hostNetwork"):
            raise _unmovable(spec, obj, "its pods use the node's network (hostNetwork)")
        for container in all_containers(template):
            for port in container.get("ports") or []:
                if port.get("hostPort"):
                    cause = f"only one pod of a node can have its port {port['hostPort']}"
                    raise _unmovable(spec, obj, cause)


def _free_ports(obj: Object) -> None:
    """Let Kubernetes choose node ports: each is there once, and the handle's URL has its own."""
    if obj["kind"] == "Service" and obj.get("spec"):
        obj["spec"].pop("healthCheckNodePort", None)
        for port in obj["spec"].get("ports") or []:
            port.pop("nodePort", None)


def _unmovable(spec: ServiceSpec, obj: Object, cause: str) -> ManifestError:
    return ManifestError(
        f"service {spec.title}: {title(obj)} cannot be there once for each worker",
        cause=cause,
        remedy="drop per_worker=True, or leave the object out of the manifests and apply it once",
        slug="not-per-worker",
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
