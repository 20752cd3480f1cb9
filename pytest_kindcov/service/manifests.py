"""Manifests: read, rendered or generated, and which of their containers run the service."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pytest_kindcov._run import run
from pytest_kindcov.cluster.api import title
from pytest_kindcov.errors import CommandError, KindCovError, ManifestError
from pytest_kindcov.service.image import NONROOT, full_name, last_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

_SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_RENDER = 60.0
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
    kubectl: Callable[[], list[str]],
) -> Manifests:
    """Read the service's manifests, or generate them, and find its image among them.

    Args:
        spec: the service.
        rootdir: pytest's root directory.
        kubectl: gives the command `kubectl`; called for Kustomize directories only.

    Raises:
        ManifestError: a path is missing, a document is not valid, or no container uses the image.

    """
    if not spec.manifests:
        image = spec.image or f"kindcov.local/{spec.title}:dev"
        return Manifests(generate(spec, image), image)
    objects: list[Object] = []
    for path in spec.manifests:
        objects += _read(spec.find(path, rootdir), kubectl)
    if not objects:
        raise ManifestError(
            f"service {spec.title}: no object in {', '.join(spec.manifests)}",
            remedy="name a manifest file, a directory with .yaml files, or a Kustomize directory",
            slug="manifests-empty",
        )
    manifests = Manifests(objects, spec.image or _only_image(spec, objects))
    if not list(manifests.containers()):
        used = sorted(
            {str(c.get("image")) for _, t in templates(objects) for c in all_containers(t)}
        )
        raise ManifestError(
            f"service {spec.title}: no manifest uses the image {manifests.image}",
            cause="they use " + (", ".join(used) if used else "no image at all"),
            remedy="say go_service(..., image=...) with the name that the manifests use",
            slug="image-not-used",
        )
    return _without_digest(manifests) if spec.package or spec.dockerfile else manifests


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


def _read(path: Path, kubectl: Callable[[], list[str]]) -> list[Object]:
    if not path.is_dir():
        return list(_documents(path.read_text(), str(path)))
    if any((path / name).exists() for name in _KUSTOMIZATION):
        return _kustomize(path, kubectl)
    if (path / "Chart.yaml").exists():
        raise ManifestError(
            f"{path} is a Helm chart",
            remedy="render it first: `helm template NAME CHART > manifests.yaml`",
            slug="helm-chart",
        )
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    return [obj for file in files for obj in _documents(file.read_text(), str(file))]


def _kustomize(path: Path, kubectl: Callable[[], list[str]]) -> list[Object]:
    own = shutil.which("kustomize")
    command = [own, "build", str(path)] if own else [*kubectl(), "kustomize", str(path)]
    try:
        rendered = run(command, timeout=_RENDER).text
    except CommandError as error:
        raise ManifestError(
            f"{path} cannot be rendered",
            cause=error.output or str(error),
            remedy=f"`kubectl kustomize {path}` shows the same",
            slug="kustomize-failed",
        ) from error
    return list(_documents(rendered, f"{path} (rendered)"))


def _documents(text: str, origin: str) -> Iterator[Object]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ManifestError(
            f"{origin} is not valid YAML",
            cause=str(error),
            remedy="mend the file; templates must be rendered before they are applied",
            slug="yaml-invalid",
        ) from error
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
            yield from (_checked(item, origin, number) for item in document.get("items") or [])
        else:
            yield _checked(document, origin, number)


def _checked(document: Any, origin: str, number: int) -> Object:
    where = f"{origin}, document {number}"
    if not isinstance(document, dict):
        raise ManifestError(
            f"{where} is not an object but {type(document).__name__}", slug="manifest-invalid"
        )
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    for key, value in (
        ("apiVersion", document.get("apiVersion")),
        ("kind", document.get("kind")),
        ("metadata.name", name),
    ):
        if not isinstance(value, str) or not value:
            raise ManifestError(
                f"{where} has no {key}",
                remedy="is it a Kubernetes manifest?",
                slug="manifest-invalid",
            )
    return document


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


def host_kubectl(path: str) -> list[str] | None:
    """The command `kubectl` of this host, None where there is none."""
    found = shutil.which(path or "kubectl")
    if path and found is None:
        raise KindCovError(f"kubectl was not found ({path})", slug="kubectl-missing")
    return [found] if found else None
