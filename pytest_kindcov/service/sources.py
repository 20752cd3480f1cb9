"""Where a service's objects are read from: files, Kustomize directories, a Helm chart."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from pytest_kindcov._run import run
from pytest_kindcov.errors import CommandError, KindCovError, ManifestError
from pytest_kindcov.service import helm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

_SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_RENDER = 60.0


def read(
    spec: ServiceSpec, *, rootdir: Path, scratch: Path, kubectl: Callable[[], list[str]]
) -> list[Object]:
    """All objects of a service, as its files and its chart give them.

    Args:
        spec: the service.
        rootdir: pytest's root directory.
        scratch: private directory for a chart's values.
        kubectl: gives the command `kubectl`; called for Kustomize directories only.

    Raises:
        ManifestError: a path is missing, a document is not valid, or there is no object.

    """
    objects: list[Object] = []
    for path in spec.manifests:
        objects += _read(spec.find(path, rootdir), kubectl)
    if spec.chart:
        rendered = helm.render(spec, rootdir=rootdir, scratch=scratch)
        objects += documents(rendered, f"{spec.chart} (rendered)")
    if not objects:
        raise ManifestError(
            f"service {spec.title}: no object in " + ", ".join([*spec.manifests, spec.chart]),
            remedy="name a manifest file, a directory with .yaml files, or a Kustomize directory",
            slug="manifests-empty",
        )
    return objects


def _read(path: Path, kubectl: Callable[[], list[str]]) -> list[Object]:
    if not path.is_dir():
        return list(documents(path.read_text(), str(path)))
    if any((path / name).exists() for name in _KUSTOMIZATION):
        return _kustomize(path, kubectl)
    if (path / "Chart.yaml").exists():
        raise ManifestError(
            f"{path} is a Helm chart",
            remedy="say go_service(..., chart=...): then `helm` renders it",
            slug="helm-chart",
        )
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    return [obj for file in files for obj in documents(file.read_text(), str(file))]


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
    return list(documents(rendered, f"{path} (rendered)"))


def documents(text: str, origin: str) -> Iterator[Object]:
    """The objects in a text of YAML documents; those of a List one by one.

    Args:
        text: YAML or JSON.
        origin: where it is from, for errors.

    Raises:
        ManifestError: it is not YAML, or a document is no object.

    """
    try:
        parsed = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ManifestError(
            f"{origin} is not valid YAML",
            cause=str(error),
            remedy="mend the file; templates must be rendered before they are applied",
            slug="yaml-invalid",
        ) from error
    for number, document in enumerate(parsed, 1):
        if document is not None:
            yield from objects_of(document, f"{origin}, document {number}")


def objects_of(document: Any, where: str) -> Iterator[Object]:
    """The object that a document is, or those of its list. Raises ManifestError."""
    kind = str(document.get("kind", "")) if isinstance(document, dict) else ""
    items = document.get("items") if kind.endswith("List") else None
    if kind == "List" or isinstance(items, list):
        for item in items or []:
            yield from objects_of(item, where)
    else:  # also a single object whose kind ends so, such as an IPAllowList
        yield _checked(document, where)


def _checked(document: Any, where: str) -> Object:
    if not isinstance(document, dict):
        raise ManifestError(
            f"{where} is not an object but {type(document).__name__}", slug="manifest-invalid"
        )
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and metadata.get("generateName") and not metadata.get("name"):
        # The API server's apply wants a name: the same one for the same object.
        text = json.dumps(document, sort_keys=True, default=str)
        suffix = hashlib.sha256(text.encode()).hexdigest()[:5]
        metadata["name"] = f"{metadata.pop('generateName')}{suffix}"
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


def host_kubectl(path: str) -> list[str] | None:
    """The command `kubectl` of this host, None where there is none."""
    found = shutil.which(path or "kubectl")
    if path and found is None:
        raise KindCovError(f"kubectl was not found ({path})", slug="kubectl-missing")
    return [found] if found else None
