"""Coverage of Go services, end to end, in Kind clusters: `pytest --kind-coverage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindcov.fixtures import go_service
    from pytest_kindcov.service.callables import Target
    from pytest_kindcov.service.goservice import GoService

__all__ = ["GoService", "Target", "go_service"]


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used."""
    if name == "go_service":
        from pytest_kindcov.fixtures import go_service

        return go_service
    if name == "GoService":
        from pytest_kindcov.service.goservice import GoService

        return GoService
    if name == "Target":
        from pytest_kindcov.service.callables import Target

        return Target
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-kindcov")
    raise AttributeError(f"module {__name__} has no attribute {name}")
