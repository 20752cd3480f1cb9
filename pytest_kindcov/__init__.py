"""Coverage of Go services, end to end, in Kind clusters: `pytest --kind-coverage`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.fixtures import go_service
    from pytest_kindcov.handle import KindCov
    from pytest_kindcov.service.callables import Target
    from pytest_kindcov.service.goservice import Coverage, GoService

__all__ = ["Coverage", "GoService", "KindCluster", "KindCov", "Target", "go_service"]

# Public names and their modules, imported when a name is first used.
_MODULES = {
    "Coverage": "service.goservice",
    "GoService": "service.goservice",
    "KindCluster": "cluster.kind",
    "KindCov": "handle",
    "Target": "service.callables",
    "go_service": "fixtures",
}


def __getattr__(name: str) -> Any:
    """A public name."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-kindcov")
    raise AttributeError(f"module {__name__} has no attribute {name}")
