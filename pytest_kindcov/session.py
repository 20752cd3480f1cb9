"""One cluster per run: its owner makes, harvests and deletes it, once, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov._signals import TermBridge, shield
from pytest_kindcov._wait import wait_until
from pytest_kindcov.errors import Cancelled, ClusterError, KindCovError, ToolNotFound, Unfit
from pytest_kindcov.harvest.running import Running
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.spec import ServiceSpec
from pytest_kindcov.state import State, attached
from pytest_kindcov.wire import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.harvest.probes import Probes
    from pytest_kindcov.harvest.record import Recorder
    from pytest_kindcov.options import Settings
    from pytest_kindcov.report.model import Phase, Report, Summary
    from pytest_kindcov.service.deploy import Deployed
    from pytest_kindcov.service.provide import Provider
    from pytest_kindcov.state import Live

_INBOX = 0.2  # seconds within which a service that a test asks for late is noticed
# Seconds between two looks at booting nodes. One look costs 0.3 s of a processor that kind needs,
# and nodes take images after some 6 s.
_BOOT = 2.0
_READY = 120.0


@dataclass
class Outcome:
    """How the run's infrastructure fared: what the summary prints and the exit code follows."""

    errors: list[KindCovError] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    report: Report | None = None
    skipped: list[str] = field(default_factory=list)
    """Why tests were skipped that needed the cluster; nothing is said of coverage then."""
    notes: list[str] = field(default_factory=list)
    """Lines for the block: what is no problem, what was kept."""
    wrote: list[str] = field(default_factory=list)
    """Files and directories, as the user would name them."""
    used: bool = False
    """Whether a cluster was made or attached; nothing is printed otherwise."""
    headline: str = ""


class Owner:
    """The one process that makes the cluster: plain pytest, or xdist's controller.

    Args:
        settings: of the run.
        tell: prints one line of progress; called from several threads.
        tick: called while the main thread waits.

    """

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[str], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.outcome = Outcome()
        self._tell_line = tell
        self._tick = tick
        self._cancel = threading.Event()
        self._lock = threading.Lock()
        self._bridge = TermBridge()
        self._wanted: set[str] = set()
        self._deployed: list[Deployed] = []
        self._made: Future[KindCluster] | None = None
        self._tasks: list[Future[None]] = []
        self._begin = time.monotonic()
        self._closed = False
        self._injected = False
        self._running = Running()
        self._recorder: Recorder | None = None
        self._probes: Probes | None = None
        self._sources: Future[dict[str, str]] | None = None
        self._phases: list[Phase] = []
        self._worker_of: dict[str, str] = {}  # namespace to the worker that alone uses it
        self._server: Server | None = None
        self.live: Live = OwnerLive(self, "")

    @cached_property
    def state(self) -> State:
        """The state directory, made when it is first needed."""
        return State(Path(tempfile.mkdtemp(prefix=f"kindcov-{os.getpid()}-")))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(8, thread_name_prefix="kindcov")

    def want(self, specs: list[ServiceSpec]) -> None:
        """Start what is needed and not under way: first of all the cluster."""
        with self._lock:
            if self._closed:
                return
            if self._made is None:
                _ = self.state  # made here, before several threads ask for it
                self._bridge.install()
                self.outcome.used = True
                self._begin = time.monotonic()
                self._made = self._pool.submit(self._make_cluster)
                if self.settings.coverage:
                    self._sources = self._pool.submit(self._record_sources)
                self._tasks.append(self._pool.submit(self._publish_cluster))
            for spec in specs:
                if spec.key not in self._wanted:
                    self._wanted.add(spec.key)
                    self._tasks.append(self._pool.submit(self._provide, spec))

    def read_inbox(self) -> None:
        """Start what workers asked for."""
        for note in sorted(self.state.directory.glob("want-*.json")):
            value = self.state.read(note.stem) or {}
            note.unlink(missing_ok=True)  # two threads may read it
            self.want([ServiceSpec.from_json(text) for text in value.get("specs", [])])

    def watch_inbox(self) -> None:
        """From now on, look for workers' late wishes."""

        def look() -> None:
            while not self._cancel.wait(_INBOX):
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
        return self._api_once()

    def _wait(self, name: str, what: str) -> dict[str, Any]:
        return self.state.wait(name, what, self.settings.timeout, self._tick)

    def close(self, *, failed: bool = False, interrupted: bool = False) -> Outcome:
        """Harvest, report, delete; once, whatever came before. Each step is tried.

        Args:
            failed: whether tests did.
            interrupted: whether not all tests ran.

        Returns:
            The outcome; also when called again.

        """
        with self._lock:
            if self._closed:
                return self.outcome
            self._closed = True
        if self._made is None:
            self._remove_state()
            return self.outcome
        with shield(self._tell):
            try:
                self._end_provisioning()
                cluster = self._result()
                if cluster is not None:
                    # The harvest ends pods, and their logs go with them.
                    self._step(lambda: self._save_logs(cluster))
                    self._step(lambda: self._harvest(cluster, failed, interrupted))
                    for watcher in (self._probes, self._recorder):
                        if watcher is not None:
                            watcher.close()
                    self._step(lambda: self._save_logs(cluster))
                    self._step(lambda: self._leave(cluster))
                if self.outcome.skipped and self.settings.coverage:
                    self._step(self._forget_earlier)
            finally:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._bridge.remove()
                self._remove_state()
        return self.outcome

    def serve(self) -> None:
        """Answer what workers tell and ask of the tests; called for each worker."""
        if self._server is None and self.settings.coverage:
            self._server = Server(self.state.directory, self._answer)

    def forget(self, worker: str) -> None:
        """A worker is gone."""
        self.change(lambda: self._running.drop(worker))

    def change(self, act: Callable[[], None]) -> None:
        """Change what is under way, after what ran so far was booked."""
        if self._recorder is not None:
            self._recorder.change(act)
        else:
            act()

    @property
    def recorder(self) -> Recorder | None:
        """What reads the running services; None before there are any, and without coverage."""
        return self._recorder

    @property
    def running(self) -> Running:
        """What is under way."""
        return self._running

    def images(self, service: str, namespace: str) -> set[str]:
        """Full names of the images of a service in a namespace."""
        with self._lock:
            return {
                deployed.image
                for deployed in self._deployed
                if deployed.title == service and namespace in deployed.namespaces
            }

    def _answer(self, method: str, worker: str, *arguments: Any) -> Any:
        """A call from a worker, by the name of one of `Live`'s methods."""
        live = OwnerLive(self, worker)
        if method == "coverage":
            summary = live.coverage(*arguments)
            return [[tally.name, tally.statements, tally.covered] for tally in summary.packages]
        if method not in ("enter", "leave", "newly", "settle"):
            raise ValueError(f"no method {method}")
        return getattr(live, method)(*arguments)

    def _remove_state(self) -> None:
        if self._server is not None:
            self._server.close()
        if "state" in self.__dict__:
            shutil.rmtree(self.state.directory, ignore_errors=True)

    def _tell(self, line: str) -> None:
        self._tell_line(f"kindcov: {time.monotonic() - self._begin:5.1f} s  {line}")

    def _phase(self, name: str, begin: float) -> None:
        """Note a part of the run that ends now; it began at a time of `time.monotonic`."""
        from pytest_kindcov.report.model import Phase

        self._phases.append(Phase(name, begin - self._begin, time.monotonic() - begin))

    def _step(self, step: Callable[[], None]) -> None:
        """One step of the end: its failure is reported and does not keep the next from running."""
        try:
            step()
        except Exception as error:  # what is left of the end must be tried
            self.outcome.errors.append(_known(error))

    # The beginning.

    def _make_cluster(self) -> KindCluster:
        from pytest_kindcov.cluster.api import import_ahead
        from pytest_kindcov.cluster.kind import KindCluster
        from pytest_kindcov.harvest.inject import inject

        settings, engine = self.settings, self._engine
        directory = self.state.directory
        name = settings.cluster_name or f"kindcov-{os.getpid()}-{directory.name[-4:].lower()}"
        name = name.replace("_", "x")
        cluster = KindCluster(
            name,
            Path(settings.kubeconfig) if settings.kubeconfig else directory / "kubeconfig",
            image=settings.node_image or None,
            kind_path=Path(settings.kind_bin) if settings.kind_bin else None,
            kubectl_path=Path(settings.kubectl_bin) if settings.kubectl_bin else None,
            engine=engine,
        )
        cluster.scratch = directory
        self._cluster = cluster
        self._tell(f"creating cluster {name} ({engine.name})")
        self._tasks.append(self._pool.submit(self._name_orphans, engine))
        threading.Thread(target=import_ahead, name="kindcov-import", daemon=True).start()
        config = settings.rootdir / settings.kind_config if settings.kind_config else None
        cluster.create(
            config,
            timeout=settings.timeout,
            cancel=self._cancel,
            new=not settings.cluster_name,
            logs=settings.dir / "logs",
        )
        self._tell(f"cluster {name} {'created' if cluster.created else 'was there already'}")
        self._phase("cluster", self._begin)
        if settings.coverage:
            inject(cluster.nodes)
            self._injected = True
            self._record(cluster)
        return cluster

    def _name_orphans(self, engine: Engine) -> None:
        """Say what dead runs left; it is for `kindcov doctor` to remove it."""
        from pytest_kindcov.cluster.orphans import find

        try:
            found = find(engine, engine.clusters())
        except KindCovError:
            return  # the cluster's own error says it
        self.outcome.notes += [
            f"found a {orphan}; save its coverage: `kindcov harvest --cluster"
            f" {orphan.owner.cluster}`, remove it: `kindcov doctor --remove`"
            for orphan in found.orphans
            if orphan.nodes
        ]

    def _record(self, cluster: KindCluster) -> None:
        from pytest_kindcov.harvest.probes import Probes
        from pytest_kindcov.harvest.record import Recorder

        poll = self.settings.poll
        self._recorder = Recorder(cluster.nodes, self._running, self._worker_of.get, poll)
        self._probes = Probes(self._api_once, cluster.nodes, poll)

    @cached_property
    def _repository(self) -> Repository:
        from pytest_kindcov.report import sources

        return sources.repository(self.settings.rootdir)

    def _record_sources(self) -> dict[str, str]:
        """What the services are about to be built from, so that later changes are seen."""
        from pytest_kindcov.report import sources

        return sources.record(self._repository)

    @cached_property
    def _engine(self) -> Engine:
        from pytest_kindcov.cluster.engine import detect

        engine = detect(self.settings.engine)
        if self.settings.address != "auto":
            engine = replace(engine, reaches_nodes=self.settings.address == "node")
        return engine

    @cached_property
    def _api(self) -> Api:
        from pytest_kindcov.cluster.api import Api

        assert self._made is not None
        cluster = self._made.result()
        return Api(cluster.kubeconfig_path, self.state.directory / "kinds.json")

    def _publish_cluster(self) -> None:
        assert self._made is not None
        try:
            cluster = self._made.result()
            self._wait_node_ready()
        except Exception as error:  # the tests wait for an answer, whatever happens here
            self._failed("cluster", "the cluster", _known(error))
            return
        self.state.publish(
            "cluster",
            {
                "name": cluster.name,
                "kubeconfig": str(cluster.kubeconfig_path),
                "kind": str(cluster.kind_path),
                "kubectl": str(cluster.kubectl_path),
                "engine": cluster.engine.name,
            },
        )

    def _wait_node_ready(self) -> None:
        def ready() -> bool:
            nodes = self._api_once().list("v1", "Node")
            return all(
                any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in node["status"]["conditions"]
                )
                for node in nodes
            ) and bool(self._api_once().get("v1", "ServiceAccount", "default", "default"))

        try:
            wait_until(
                ready,
                state=lambda: _conditions(self._api_once().list("v1", "Node")),
                what="the nodes being Ready",
                timeout=_READY,
                interval=0.3,
                cancel=self._cancel,
                error=ClusterError,
            )
        except ClusterError as error:
            from pytest_kindcov.cluster.failure import explain

            logs = self.settings.dir / "logs"
            what = f"cluster {self._cluster.name} ({self._engine.name}): {error.what}"
            raise explain(
                what, error, self._engine, self._cluster.name, logs, slug="nodes-not-ready"
            ) from error

    def _api_once(self) -> Api:
        with self._lock:  # several threads ask first at the same time; importing takes a second
            return self._api

    def _provide(self, spec: ServiceSpec) -> None:
        name = f"service-{spec.key}"
        try:
            service = self._deploy(spec)
        except Exception as error:  # the tests wait for an answer, whatever happens here
            self._failed(name, f"service {spec.title}", _known(error))
        else:
            self.state.publish(name, service.to_dict())

    def _failed(self, name: str, what: str, error: KindCovError) -> None:
        told = f"{what} could not be provided: {error.headline}"
        value: dict[str, Any] = {"error": told, "slug": error.slug}
        if self.settings.missing == "skip" and isinstance(error, ToolNotFound | Unfit):
            value["missing"] = True
            if str(error) not in self.outcome.skipped:
                self.outcome.skipped.append(str(error))
        elif not isinstance(error, Cancelled) and str(error) not in map(str, self.outcome.errors):
            self.outcome.errors.append(error)
        self.state.publish(name, value)

    def _deploy(self, spec: ServiceSpec) -> GoService:
        with (
            self._lock
        ):  # several threads ask first, and what is done once is known to one provider
            provider = self._provider
        service, deployed = provider.provide(spec)
        with self._lock:
            self._deployed.append(deployed)
        return service

    def _deploying(self, deployed: Deployed) -> None:
        if deployed.worker:
            self._worker_of |= dict.fromkeys(deployed.namespaces, deployed.worker)

    def _booted(self) -> list[Node]:
        """Wait for nodes that take images while kind works; none when it was quicker."""
        assert self._made is not None
        while not self._made.done() and not self._cancel.wait(_BOOT):
            cluster = self._result()
            nodes = cluster.booted() if cluster is not None else []
            if nodes:
                return nodes
        return []

    @cached_property
    def _provider(self) -> Provider:
        from pytest_kindcov.service.provide import Provider

        assert self._made is not None
        return Provider(
            rootdir=self.settings.rootdir,
            scratch=self.state.directory,
            coverage=self.settings.coverage,
            kubectl=self.settings.kubectl_bin,
            engine=lambda: self._engine,
            cluster=self._made.result,
            booted=self._booted,
            api=self._api_once,
            deploying=self._deploying,
            tell=self._tell,
            phase=self._phase,
            cancel=self._cancel,
        )

    # The end.

    def _end_provisioning(self) -> None:
        self._cancel.set()
        # Every task answers for its own errors; here they only have to be over.
        assert self._made is not None
        wait([self._made])
        wait(self._tasks)

    def _result(self) -> KindCluster | None:
        """The cluster, also a half-made one: it must be deleted."""
        return getattr(self, "_cluster", None)

    def _harvest(self, cluster: KindCluster, failed: bool, interrupted: bool) -> None:
        """Stop the services, copy their files off all nodes, merge and report."""
        if not self._injected or (self._wanted and not self._deployed) or self.outcome.skipped:
            return  # nothing ran, or not all of it; the summary says why
        from pytest_kindcov.harvest.run import harvest
        from pytest_kindcov.report import finish, make
        from pytest_kindcov.report.model import Issue

        self._tell("harvesting coverage")
        begin = time.monotonic()
        ready = max((phase.begin + phase.seconds for phase in self._phases), default=0.0)
        self._phase("tests", self._begin + ready)
        settings, outcome = self.settings, self.outcome
        result = harvest(
            self._api_once(),
            cluster.nodes,
            self._deployed,
            settings.dir,
            own=self._repository,
            live=(self._recorder, self._probes) if self._recorder and self._probes else None,
            allow=settings.allow,
            append=settings.append,
        )
        self._phase("harvest", begin)
        outcome.errors += result.errors
        outcome.problems += result.problems
        outcome.notes += result.notes
        shown = _relative(settings.dir, Path.cwd())
        if failed and not settings.on_fail:
            outcome.notes.append(f"tests failed: no report; for one: kindcov report {shown}")
            return
        if not result.has_data and not settings.append:
            return
        outcome.headline = f"cluster {cluster.name} ({cluster.engine.name}), " + "; ".join(
            [
                *sorted({deployed.title for deployed in self._deployed}),
                result.extent,
                *(["interrupted: not all tests ran"] if interrupted else []),
            ]
        )
        done = finish.finish(
            settings.dir,
            self._repository,
            make.Run(
                time=time.time(),
                title=outcome.headline,
                recorded=self._recorded(),
                containers=tuple(result.containers),
                issues=tuple(Issue("", "", problem) for problem in result.problems),
                phases=tuple(sorted(self._phases, key=lambda phase: phase.begin)),
                data=result.data,
            ),
            settings.wanted(),
            append=settings.append,
        )
        outcome.report = done.report
        outcome.errors += done.errors
        outcome.notes += done.notes
        issues = done.issues if done.report is None else map(str, done.report.issues)
        outcome.problems += [issue for issue in issues if issue not in outcome.problems]
        outcome.wrote += [_relative(Path(path), Path.cwd()) for path in done.wrote]

    def _recorded(self) -> dict[str, str]:
        """What the services were built from; nothing where that could not be read."""
        try:
            return self._sources.result() if self._sources is not None else {}
        except OSError as error:
            self.outcome.problems.append(f"later changes of the source are not seen: {error}")
            return {}

    def _forget_earlier(self) -> None:
        """Remove an earlier run's figures: this run fails nowhere, and has none."""
        from pytest_kindcov.harvest.run import forget

        forget(self.settings.dir)

    def _save_logs(self, cluster: KindCluster) -> None:
        """Save the logs of a run that failed, once; a failed creation has saved its own."""
        directory = self.settings.dir / "logs" / cluster.name
        if not self.outcome.errors or directory.exists():
            return
        from pytest_kindcov.cluster.logs import collect

        collect(cluster.engine, cluster.engine.nodes(cluster.name)).save(directory)
        shown = _relative(directory, self.settings.rootdir)
        self.outcome.notes.append(f"wrote the cluster's logs to {shown}/")

    def _leave(self, cluster: KindCluster) -> None:
        """Delete the cluster if this run made it; an older one is given back as it was."""
        if cluster.created and not self.settings.keep:
            cluster.delete()
            return
        from pytest_kindcov.cluster import owners

        if self._injected:
            from pytest_kindcov.harvest.inject import remove

            remove(cluster.nodes)
        if self.settings.keep:
            if cluster.created:
                owners.keep(cluster.name)
            self.outcome.notes.append(
                f"cluster {cluster.name} was kept; use it with"
                f" `kind export kubeconfig --name {cluster.name}`, delete it with"
                f" `kind delete cluster --name {cluster.name}`"
            )


class OwnerLive:
    """What the tests of one worker tell the recorder and ask of it.

    Args:
        owner: has the recorder, once there is a cluster.
        worker: its id, "" in a run without workers.

    """

    def __init__(self, owner: Owner, worker: str) -> None:
        self._owner = owner
        self._worker = worker

    def enter(self, context: str) -> None:
        """A context begins."""
        self._owner.change(lambda: self._owner.running.enter(self._worker, context))

    def leave(self) -> None:
        """The innermost context ends, as soon as its work does."""
        if self._owner.running.context(self._worker) and self._owner.settings.settle:
            self.settle(self._owner.settings.settle)
        self._owner.change(lambda: self._owner.running.leave(self._worker))

    def newly(self) -> int:
        """Statements that the innermost context was the first to run."""
        recorder = self._owner.recorder
        context = self._owner.running.context(self._worker)
        return recorder.newly(context) if recorder is not None else 0

    def settle(self, quiet: float) -> bool:
        """Wait until the services were quiet."""
        recorder = self._owner.recorder
        return recorder.settle(quiet, max(5.0, 10 * quiet)) if recorder is not None else True

    def coverage(self, service: str = "", namespace: str = "") -> Summary:
        """What ran so far."""
        from pytest_kindcov.covdata import profile as profiles
        from pytest_kindcov.report.covdata import summary
        from pytest_kindcov.report.model import Summary

        recorder = self._owner.recorder
        images = self._owner.images(service, namespace)
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


def _conditions(nodes: list[Object]) -> str:
    """What nodes say of themselves, line by line."""
    return "\n".join(
        f"{node['metadata']['name']}: {condition['type']}={condition['status']}:"
        f" {condition.get('message', '')}"
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    )


def _known(error: Exception) -> KindCovError:
    """An error as one of ours; a defect shows where it is."""
    if isinstance(error, KindCovError):
        return error
    trace = "".join(traceback.format_exception(error)).rstrip()
    return KindCovError(
        f"unexpected {type(error).__name__}",
        cause=trace,
        remedy="please report it",
        slug="unexpected",
    )


def _relative(path: Path, root: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(root))
    return str(path)
