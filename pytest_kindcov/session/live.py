"""What is under way, what is read of the running services meanwhile, and what tests ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindcov.harvest.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.harvest.probes import Probes
    from pytest_kindcov.harvest.record import Recorder
    from pytest_kindcov.report.tally import Summary
    from pytest_kindcov.session.run import Run


class Recording:
    """What reads the running services, as soon as there is a cluster; nothing without coverage.

    Args:
        run: of whose tests it is told.

    Attributes:
        running: what is under way.
        recorder: reads the counters; None before there are any, and without coverage.
        probes: tells what the kubelet does; None likewise.
        worker_of: namespace to the worker that alone uses it.

    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.running = Running()
        self.recorder: Recorder | None = None
        self.probes: Probes | None = None
        self.worker_of: dict[str, str] = {}

    def start(self, nodes: list[Node], api: Callable[[], Api]) -> None:
        """Read these nodes from now on."""
        from pytest_kindcov.harvest.probes import Probes
        from pytest_kindcov.harvest.record import Recorder

        poll = self.run.settings.poll
        self.recorder = Recorder(nodes, self.running, self.worker_of.get, poll)
        self.probes = Probes(api, nodes, poll)

    def change(self, act: Callable[[], None]) -> None:
        """Change what is under way, after what ran so far was booked."""
        if self.recorder is not None:
            self.recorder.change(act)
        else:
            act()

    def images(self, service: str, namespace: str) -> set[str]:
        """Full names of the images of a service in a namespace."""
        return {
            deployed.image
            for deployed in list(self.run.deployed)
            if deployed.title == service and namespace in deployed.namespaces
        }

    def close(self) -> None:
        """Read no more."""
        for watcher in (self.probes, self.recorder):
            if watcher is not None:
                watcher.close()


class OwnerLive:
    """What the tests of one worker tell the recorder and ask of it.

    Args:
        recording: has the recorder, once there is a cluster.
        worker: its id, "" in a run without workers.

    """

    def __init__(self, recording: Recording, worker: str) -> None:
        self._recording = recording
        self._worker = worker

    def enter(self, context: str) -> None:
        """A context begins."""
        running = self._recording.running
        self._recording.change(lambda: running.enter(self._worker, context))

    def leave(self) -> None:
        """The innermost context ends, as soon as its work does."""
        running, quiet = self._recording.running, self._recording.run.settings.settle
        if running.context(self._worker) and quiet:
            self.settle(quiet)
        self._recording.change(lambda: running.leave(self._worker))

    def newly(self) -> int:
        """Statements that the innermost context was the first to run."""
        recorder = self._recording.recorder
        context = self._recording.running.context(self._worker)
        return recorder.newly(context) if recorder is not None else 0

    def settle(self, quiet: float) -> bool:
        """Wait until the services were quiet."""
        recorder = self._recording.recorder
        return recorder.settle(quiet, max(5.0, 10 * quiet)) if recorder is not None else True

    def coverage(self, service: str = "", namespace: str = "") -> Summary:
        """What ran so far."""
        from pytest_kindcov.covdata import profile as profiles
        from pytest_kindcov.report.covdata import summary
        from pytest_kindcov.report.tally import Summary

        recorder = self._recording.recorder
        images = self._recording.images(service, namespace)
        found = (
            []
            if recorder is None
            else recorder.counters(
                lambda container: (
                    not service or (container.image in images and container.namespace == namespace)
                )
            )
        )
        if not found:
            return Summary([])
        return summary(profiles.merge([profiles.from_counters(*pair) for pair in found]))

    def answer(self, method: str, *arguments: Any) -> Any:
        """A call from another process, by the name of one of these methods; plain values."""
        if method == "coverage":
            summary = self.coverage(*arguments)
            return [[tally.name, tally.statements, tally.covered] for tally in summary.packages]
        if method not in ("enter", "leave", "newly", "settle"):
            raise ValueError(f"no method {method}")
        return getattr(self, method)(*arguments)
