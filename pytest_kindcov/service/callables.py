"""A service that a function of the user's deploys, or whose manifests it gives."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import ManifestError
from pytest_kindcov.service import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.service.spec import ServiceSpec

    Given = str | Mapping[str, Any] | Iterable[Mapping[str, Any]] | None
    Deployer = Callable[["Target"], Given]
    """Gives YAML text or objects to be applied; None when it deployed by itself."""

_FRAMES = 4  # of a failure, the last ones


@dataclass(frozen=True)
class Target:
    """Where a service is to be deployed, and with which image."""

    service: str
    """Its name."""
    image: str
    """The image, which is on all nodes; containers must not have `imagePullPolicy: Always`."""
    namespace: str
    """Of the service, or of the worker's instance; it exists."""
    kubeconfig: Path
    """Leads to the cluster, and to no other."""
    worker: str = ""
    """The xdist worker whose instance it is; empty for one that all share."""

    @property
    def env(self) -> dict[str, str]:
        """An environment for `subprocess`: this one, and KUBECONFIG, IMAGE and NAMESPACE."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "IMAGE": self.image,
            "NAMESPACE": self.namespace,
        }


def reference(function: Callable[..., Any]) -> str:
    """A function as text: it crosses from xdist workers to the controller, which calls it.

    Raises:
        ManifestError: it cannot be found by its name.

    """
    name = getattr(function, "__qualname__", "")
    code = getattr(function, "__code__", None)
    if code is None or not name.isidentifier():
        raise ManifestError(
            f"manifests={name or function!r}: not a function of a module",
            cause="it is called in another process under pytest-xdist, which finds it by its name",
            remedy="def it in the conftest, outside of all other functions and classes",
            slug="function-not-found",
        )
    return f"{Path(code.co_filename).resolve()}::{name}"


def call(spec: ServiceSpec, target: Target) -> list[Object] | None:
    """Call a service's function.

    Returns:
        The objects that it gave, None when it deployed by itself.

    Raises:
        ManifestError: it failed, or gave something else.

    """
    _, _, name = spec.call.rpartition("::")
    what = f"service {spec.title}: manifests={name}"
    try:
        given = _function(spec)(target)
    except Exception as error:  # whatever the user's function does
        raise ManifestError(
            f"{what} failed",
            cause=_told(error),
            remedy="it is called with a pytest_kindcov.Target",
            slug="function-failed",
        ) from error
    if given is None:
        return None
    if isinstance(given, str):
        return list(sources.documents(given, f"{name}()"))
    if isinstance(given, dict):
        given = [given]
    # Also what a client's objects give: plain values.
    plain = json.loads(json.dumps(list(given), default=str))
    return [obj for item in plain for obj in sources.objects_of(item, f"{name}()")]


def _told(error: Exception) -> str:
    lines = traceback.format_exception(error)
    told = "".join([*lines[-_FRAMES:]]).rstrip()
    if isinstance(error, subprocess.CalledProcessError):
        for output in (error.stdout, error.stderr):
            text = output.decode(errors="replace") if isinstance(output, bytes) else output
            told += f"\n{text.rstrip()}" if text else ""
    return told


def _function(spec: ServiceSpec) -> Callable[[Target], Given]:
    file, _, name = spec.call.rpartition("::")
    function: Callable[[Target], Given] = getattr(_module(Path(file)), name)
    return function


def _module(file: Path) -> ModuleType:
    """The module of a file: as pytest imported it, or, in xdist's controller, imported here."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == file:
            return module
    name = f"_kindcov_{file.stem}_{abs(hash(file))}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))  # as pytest does for a conftest
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module
