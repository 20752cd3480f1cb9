"""Manifests: read, rendered or generated, and which of their containers run the service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.api import title
from pytest_kindcov.errors import ManifestError
from pytest_kindcov.service import hooks, sources
from pytest_kindcov.service.image import NONROOT, full_name, last_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

_NO_IMAGE = frozenset({"name", "namespace", "labels", "matchLabels", "selector"})
_OTHER_PROGRAMS = frozenset({"sh", "bash", "ash", "dash", "busybox", "env", "tini", "dumb-init"})
_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")


@dataclass(frozen=True)
class Manifests:
    """The objects of a service, and the reference by which they name its image."""

    objects: list[Object]
    image: str

    def containers(self) -> Iterator[tuple[Object, Object, Object]]:
        """Each (object, pod template, container) that runs the service's image."""
        wanted = full_name(self.image)
        for obj, template in templates(self.objects):
            for container in all_containers(template):
                if full_name(str(container.get("image", ""))) == wanted:
                    yield obj, template, container

    def program_paths(self) -> list[str]:
        """Absolute paths at which the containers' `command:` expects the program.

        Raises:
            ManifestError: a command starts with another program, which an empty image has not.

        """
        paths = set()
        for obj, _, container in self.containers():
            first = str((container.get("command") or [""])[0])
            if first.rpartition("/")[2] in _OTHER_PROGRAMS:
                raise ManifestError(
                    f"{title(obj)}, container {container['name']}: its command starts with {first}",
                    cause="an image that is built from a package holds its program alone",
                    remedy="let the command be the program itself, or use dockerfile=",
                    slug="command-not-in-image",
                )
            if first.startswith("/"):
                paths.add(first)
        return sorted(paths)

    def needs_nonroot(self) -> bool:
        """Whether a pod demands a user other than root without naming one."""
        for _, template, container in self.containers():
            pod = template["spec"].get("securityContext") or {}
            own = container.get("securityContext") or {}
            if own.get("runAsNonRoot", pod.get("runAsNonRoot")) and not (
                own.get("runAsUser") or pod.get("runAsUser")
            ):
                return True
        return False


def load(
    spec: ServiceSpec,
    *,
    rootdir: Path,
    scratch: Path,
    kubectl: Callable[[], list[str]],
) -> Manifests:
    """Read the service's manifests, or generate them, and find its image among them.

    Args:
        spec: the service.
        rootdir: pytest's root directory.
        scratch: private directory for a chart's values.
        kubectl: gives the command `kubectl`; called for Kustomize directories only.

    Returns:
        The manifests, without the workloads that are another service's. Of a service that a
        function deploys the objects are not known yet.

    Raises:
        ManifestError: a path is missing, a document is not valid, or nothing names the image.

    """
    image = spec.image or f"kindcov.local/{spec.title}:dev"
    if spec.call:
        return Manifests([], image)
    if not (spec.manifests or spec.chart):
        return Manifests(generate(spec, image), image)
    objects = sources.read(spec, rootdir=rootdir, scratch=scratch, kubectl=kubectl)
    return found_in(objects, spec)


def found_in(objects: list[Object], spec: ServiceSpec) -> Manifests:
    """A service's manifests, with the image that is its own among those that they use.

    Raises:
        ManifestError: nothing names the image.

    """
    objects = hooks.installed(objects)
    manifests = Manifests(objects, spec.image or _only_image(spec, objects))
    if not list(manifests.containers()) and not _names(objects, manifests.image):
        used = sorted(
            {str(c.get("image")) for _, t in templates(objects) for c in all_containers(t)}
        )
        raise ManifestError(
            f"service {spec.title}: no manifest uses the image {manifests.image}",
            cause="they use " + (", ".join(used) if used else "no image at all"),
            remedy="say go_service(..., image=...) with the name that the manifests use",
            slug="image-not-used",
        )
    if spec.package or spec.dockerfile:
        manifests = _without_digest(manifests)
    return without_others(manifests, spec.others)


def without_others(manifests: Manifests, others: tuple[str, ...]) -> Manifests:
    """The manifests without workloads that run other services' images, but not this one's.

    Args:
        manifests: of all these services.
        others: their images, or the names of those that named none.

    """
    own = {id(obj) for obj, _, _ in manifests.containers()}
    left = {
        id(obj)
        for obj, template in templates(manifests.objects)
        for container in all_containers(template)
        for image in [str(container.get("image", ""))]
        if id(obj) not in own
        and any(
            image and (full_name(image) == full_name(o) or last_name(image) == o) for o in others
        )
    }
    return Manifests([obj for obj in manifests.objects if id(obj) not in left], manifests.image)


def _names(value: object, image: str) -> bool:
    """Whether an image is named in any other place: an operator is told by it what to run.

    Not in what bears a short name of another kind: a container `web` names no image `web`.
    """
    if isinstance(value, dict):
        return any(_names(item, image) for key, item in value.items() if key not in _NO_IMAGE)
    if isinstance(value, list):
        return any(_names(item, image) for item in value)
    whole = rf"(?<![\w./-]){re.escape(image)}(?![\w./:@-])"
    return isinstance(value, str) and re.search(whole, value) is not None


def _without_digest(manifests: Manifests) -> Manifests:
    """The same under a tag: what is built here cannot have the digest of what was built elsewhere.

    The second and last change to parsed objects.
    """
    name, by_digest, _ = manifests.image.partition("@")
    if not by_digest:
        return manifests
    image = name if ":" in name.rpartition("/")[2] else f"{name}:dev"
    for _, _, container in list(manifests.containers()):
        container["image"] = image
    return Manifests(manifests.objects, image)


def prepare(manifests: Manifests, spec: ServiceSpec) -> None:
    """Make the service's containers use the loaded image, with the environment of the conftest.

    One of two changes to parsed objects: a pull policy that would go to a registry for an image
    that is on the node already (`Always`, which `:latest` implies).
    """
    for _, _, container in manifests.containers():
        reference = full_name(str(container["image"]))
        policy = container.get("imagePullPolicy") or (
            "Always" if reference.endswith(":latest") else "IfNotPresent"
        )
        if policy == "Always":
            container["imagePullPolicy"] = "IfNotPresent"
        kept = [item for item in container.get("env") or [] if item.get("name") not in spec.env]
        added = [{"name": name, "value": str(value)} for name, value in spec.env.items()]
        if added:
            container["env"] = kept + added


def generate(spec: ServiceSpec, image: str) -> list[Object]:
    """A Deployment and a Service that PodSecurity *restricted* admits."""
    labels = {"app.kubernetes.io/name": spec.title}
    ports = [{"name": "main", "containerPort": spec.port}] if spec.port else []
    container: Object = {
        "name": spec.title,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": ports,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if spec.port:
        container["readinessProbe"] = {"tcpSocket": {"port": spec.port}, "periodSeconds": 1}
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.title, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": NONROOT,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                },
            },
        },
    }
    if not spec.port:
        return [deployment]
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": spec.title, "labels": labels},
        "spec": {"selector": labels, "ports": [{"port": spec.port, "targetPort": spec.port}]},
    }
    return [deployment, service]


def templates(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload with its pod template (an object with `metadata` and `spec`)."""
    for obj in objects:
        template = pod_template(obj)
        if template is not None and isinstance(template.get("spec"), dict):
            yield obj, template


def pod_template(obj: Object) -> Object | None:
    """The pod template of a workload, None for other objects."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "Pod":
        return obj
    if obj.get("kind") in _TEMPLATED:
        template: Object | None = spec.get("template")
        return template
    if obj.get("kind") == "CronJob":
        nested: Object | None = (spec.get("jobTemplate") or {}).get("spec", {}).get("template")
        return nested
    return None


def all_containers(template: Object) -> list[Object]:
    """Init containers and containers of a pod template."""
    spec = template["spec"]
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _only_image(spec: ServiceSpec, objects: list[Object]) -> str:
    images = sorted({str(c.get("image")) for _, t in templates(objects) for c in all_containers(t)})
    # Beside a database's and a proxy's, the one that is named as the service is.
    namesakes = [image for image in images if last_name(image) == spec.title]
    for candidates in (images, namesakes):
        if len({full_name(image) for image in candidates}) == 1:
            return candidates[-1]
    raise ManifestError(
        f"service {spec.title}: which image of its manifests is the service's?",
        cause="they use " + (", ".join(images) if images else "no image at all"),
        remedy="say go_service(..., image=...)",
        slug="image-not-said",
    )
