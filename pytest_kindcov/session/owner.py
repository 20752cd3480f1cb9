"""The one process that has the cluster made, harvested and deleted, once, whatever happens."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

from pytest_kindcov._signals import Signals
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.spec import ServiceSpec
from pytest_kindcov.session import live
from pytest_kindcov.session.end import End
from pytest_kindcov.session.provision import Provision
from pytest_kindcov.session.run import Run
from pytest_kindcov.state import attached
from pytest_kindcov.wire import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.options import Settings
    from pytest_kindcov.session.run import Outcome
    from pytest_kindcov.state import Live, State

_INBOX = 0.2  # seconds within which a service that a test asks for late is noticed


class Owner:
    """Plain pytest, or xdist's controller: gives tests what they need, and ends it.

    Args:
        settings: of the run.
        tell: prints one line of progress; called from several threads.
        tick: called while the main thread waits.
        kept: gives the directory in which programs stay between runs; None: nothing stays.

    """

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[str], None],
        tick: Callable[[], None] = lambda: None,
        kept: Callable[[], Path] | None = None,
    ) -> None:
        self.settings = settings
        self._run = Run(settings, tell, kept)
        self._recording = live.Recording(self._run)
        self._provision = Provision(self._run, self._recording)
        self._tick = tick
        self._lock = threading.Lock()
        self._signals = Signals(self._run.tell, lambda: self._provision.started)
        self._closed = False
        self._server: Server | None = None
        self.live: Live = live.OwnerLive(self._recording, "")

    @property
    def outcome(self) -> Outcome:
        """How the run fares."""
        return self._run.outcome

    @property
    def directory(self) -> Path:
        """Where the run's data and reports go."""
        return self._run.directory

    @property
    def state(self) -> State:
        """The state directory."""
        return self._run.state

    def ahead(self) -> None:
        """Tests are about to be collected: do what costs nothing should none need a cluster."""
        self._provision.ahead()

    def want(self, specs: list[ServiceSpec]) -> None:
        """Start what is needed and not under way: first of all the cluster."""
        with self._lock:
            if self._closed:
                return
            if not self._provision.started:
                self._signals.bridge()
                self.outcome.used = True
                self._provision.start()
            self._provision.want(specs)

    def read_inbox(self) -> None:
        """Start what workers asked for."""
        for note in sorted(self.state.directory.glob("want-*.json")):
            value = self.state.read(note.stem) or {}
            note.unlink(missing_ok=True)  # two threads may read it
            self.want([ServiceSpec.from_json(text) for text in value.get("specs", [])])

    def watch_inbox(self) -> None:
        """From now on, look for workers' late wishes."""
        self._signals.bridge()  # a late wish comes in a thread that cannot do it

        def look() -> None:
            while not self._run.cancel.wait(_INBOX):
                self.read_inbox()

        threading.Thread(target=look, name="kindcov-inbox", daemon=True).start()

    def cluster(self) -> KindCluster:
        """Wait for the cluster."""
        self.want([])
        return attached(self._wait("cluster", "the cluster"))

    def service(self, spec: ServiceSpec) -> GoService:
        """Wait for a service."""
        self.want([spec])
        return GoService.from_dict(self._wait(f"service-{spec.key}", f"service {spec.title}"))

    def api(self) -> Api:
        """A client of the cluster, which must be there."""
        return self._provision.api()

    def _wait(self, name: str, what: str) -> dict[str, Any]:
        return self.state.wait(name, what, self.settings.timeout, self._tick)

    def serve(self) -> None:
        """Answer what workers tell and ask of the tests; called for each worker."""
        if self._server is None and self.settings.coverage:
            self._server = Server(self.state.directory, self._answer)

    def _answer(self, method: str, worker: str, *arguments: Any) -> Any:
        return live.OwnerLive(self._recording, worker).answer(method, *arguments)

    def forget(self, worker: str) -> None:
        """A worker is gone."""
        self._recording.change(lambda: self._recording.running.drop(worker))

    def interrupted(self) -> None:
        """The run was interrupted: what is left of it must not be by accident."""
        if self._provision.started:
            self._signals.shield()

    def close(
        self, *, failed: bool = False, interrupted: bool = False, tests_failed: bool = False
    ) -> Outcome:
        """Harvest, report, delete; once, whatever came before.

        Args:
            failed: whether the run did, for whatever reason.
            interrupted: whether not all tests ran.
            tests_failed: whether tests did.

        Returns:
            The outcome; also when called again.

        """
        with self._lock:
            if self._closed:
                return self.outcome
            self._closed = True
        if not self._provision.started:
            self._remove_state()
            return self.outcome
        self._signals.shield()
        try:
            End(self._run, self._provision, self._recording).all(
                failed=failed, interrupted=interrupted, tests_failed=tests_failed
            )
        finally:
            self._signals.restore()
            self._remove_state()
        return self.outcome

    def _remove_state(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._run.has_state:
            shutil.rmtree(self.state.directory, ignore_errors=True)
