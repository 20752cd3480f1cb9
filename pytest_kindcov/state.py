"""What the owner of the cluster publishes to all processes of the run, and how workers read it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindcov._wait import wait_until
from pytest_kindcov.errors import ClusterError, KindCovError
from pytest_kindcov.service.spec import GoService, ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.options import Settings

_POLL = 0.02  # seconds between two looks at a small file


class Access(Protocol):
    """What fixtures need: the same in the owner and in a worker."""

    def want(self, specs: list[ServiceSpec]) -> None:
        """Have the cluster and these services provided; returns at once."""

    def cluster(self) -> KindCluster:
        """Wait for the cluster."""

    def service(self, spec: ServiceSpec) -> GoService:
        """Wait for a service."""


class State:
    """A private directory in which the owner publishes to all processes of the run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def publish(self, name: str, value: dict[str, Any]) -> None:
        """Write a value atomically."""
        partial = self.directory / f".{name}.{threading.get_ident()}"
        partial.write_text(json.dumps(value))
        partial.rename(self.directory / f"{name}.json")

    def read(self, name: str) -> dict[str, Any] | None:
        """A published value, None while there is none."""
        try:
            value: dict[str, Any] = json.loads((self.directory / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return value

    def wait(
        self, name: str, what: str, timeout: float, tick: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Wait for a value, ticking; a published error is raised."""

        def published() -> dict[str, Any] | None:
            tick()
            return self.read(name)

        value = wait_until(
            published, what=what, timeout=timeout, interval=_POLL, error=ClusterError
        )
        if "error" in value:
            raise NotProvided(value["error"])
        return value


class NotProvided(KindCovError):
    """The owner could not provide it; the whole error stands in the summary."""


class View:
    """A worker's access: it asks and reads by way of the state directory, and owns nothing."""

    def __init__(self, settings: Settings, directory: Path, worker: str) -> None:
        self._state = State(directory)
        self._settings = settings
        self._worker = worker

    def want(self, specs: list[ServiceSpec]) -> None:
        """Leave a note for the owner."""
        note = [spec.for_worker(self._worker).to_json() for spec in specs]
        self._state.publish(f"want-{self._worker}-{time.monotonic_ns()}", {"specs": note})

    def cluster(self) -> KindCluster:
        """Wait for the cluster."""
        return attached(self._state.wait("cluster", "the cluster", self._settings.timeout))

    def service(self, spec: ServiceSpec) -> GoService:
        """Wait for a service, this worker's own if so specified, asking first if nobody has."""
        spec = spec.for_worker(self._worker)
        name = f"service-{spec.key}"
        if self._state.read(name) is None:
            self.want([spec])
        what = f"service {spec.title}"
        return GoService(**self._state.wait(name, what, self._settings.timeout))


def attached(info: dict[str, Any]) -> KindCluster:
    """The handle of the cluster that the owner published."""
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.kind import KindCluster

    return KindCluster(
        info["name"],
        Path(info["kubeconfig"]),
        kind_path=Path(info["kind"]),
        kubectl_path=Path(info["kubectl"]),
        engine=Engine(info["engine"]),
    )
