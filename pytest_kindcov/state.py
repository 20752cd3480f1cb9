"""What the owner of the cluster publishes to all processes of the run, and how workers read it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindcov._wait import wait_until
from pytest_kindcov.errors import ClusterError, KindCovError
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.wire import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.options import Settings
    from pytest_kindcov.service.goservice import Coverage
    from pytest_kindcov.service.spec import ServiceSpec

_POLL = 0.02  # seconds between two looks at a small file


class Live(Protocol):
    """What is told of the tests, and asked of the running services."""

    def enter(self, context: str) -> None:
        """A context begins; "" stands for waiting, in which nothing is under way."""

    def leave(self) -> None:
        """The innermost context ends, as soon as its work does."""

    def newly(self) -> int:
        """Statements that the innermost context was the first to run."""

    def settle(self, quiet: float) -> bool:
        """Wait until the services were quiet for so many seconds; whether they became so."""

    def coverage(self, service: str = "", namespace: str = "") -> Coverage:
        """What ran so far, of one service or of all."""


class Access(Protocol):
    """What fixtures need: the same in the owner and in a worker."""

    live: Live

    def want(self, specs: list[ServiceSpec]) -> None:
        """Have the cluster and these services provided; returns at once."""

    def cluster(self) -> KindCluster:
        """Wait for the cluster."""

    def service(self, spec: ServiceSpec) -> GoService:
        """Wait for a service."""

    def api(self) -> Api:
        """A client of the cluster, which must be there."""


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
            published,
            what=what,
            timeout=timeout,
            interval=_POLL,
            error=ClusterError,
            slug="controller-silent",
        )
        if "error" in value:
            cls = Missing if value.get("missing") else NotProvided
            raise cls(value["error"], slug=value.get("slug", ""))
        return value


class NotProvided(KindCovError):
    """The owner could not provide it; the whole error stands in the summary."""

    slug = "not-provided"


class Missing(NotProvided):
    """What it needs is not on this machine, and the tests that need it are to be skipped."""


class View:
    """A worker's access: it asks and reads by way of the state directory, and owns nothing."""

    def __init__(self, settings: Settings, directory: Path, worker: str) -> None:
        self._state = State(directory)
        self._settings = settings
        self._worker = worker
        self.live: Live = RemoteLive(directory, worker)

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
        return GoService.from_dict(self._state.wait(name, what, self._settings.timeout))

    def api(self) -> Api:
        """A client of this worker's own."""
        return self._api

    @cached_property
    def _api(self) -> Api:
        from pytest_kindcov.cluster.api import Api

        kinds = self._state.directory / f"kinds-{self._worker}.json"
        return Api(self.cluster().kubeconfig_path, kinds)


class RemoteLive:
    """The owner's recorder, asked from a worker."""

    def __init__(self, directory: Path, worker: str) -> None:
        self._caller = Caller(directory)
        self._worker = worker

    def enter(self, context: str) -> None:
        """A context begins."""
        with contextlib.suppress(ClusterError):  # the controller is gone: there is nobody to tell
            self._caller.call("enter", self._worker, context)

    def leave(self) -> None:
        """The innermost context ends."""
        with contextlib.suppress(ClusterError):
            self._caller.call("leave", self._worker)

    def newly(self) -> int:
        """Statements that the innermost context was the first to run."""
        return int(self._caller.call("newly", self._worker))

    def settle(self, quiet: float) -> bool:
        """Wait until the services were quiet."""
        return bool(self._caller.call("settle", self._worker, quiet))

    def coverage(self, service: str = "", namespace: str = "") -> Coverage:
        """What ran so far."""
        from pytest_kindcov.report.tally import Summary, Tally

        packages = self._caller.call("coverage", self._worker, service, namespace)
        return Summary([Tally(*package) for package in packages])


def attached(info: dict[str, Any]) -> KindCluster:
    """The handle of the cluster that the owner published."""
    from pytest_kindcov.cluster.engine import EXTERNAL, Engine
    from pytest_kindcov.cluster.kind import KindCluster

    if info["engine"] == EXTERNAL:
        from pytest_kindcov.cluster.external import External, ExternalCluster

        engine = External(EXTERNAL, cluster=info["name"], directory=Path(info["directory"]))
        return ExternalCluster(engine, Path(info["kubectl"]))
    cluster = KindCluster(
        info["name"],
        Path(info["directory"], "kubeconfig"),
        kind_path=Path(info["kind"]),
        kubectl_path=Path(info["kubectl"]),
        engine=Engine(info["engine"]),
    )
    cluster.kubeconfig_path = Path(info["kubeconfig"])
    return cluster
