"""The beginning: the cluster is made and services are deployed, while tests are collected."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import (
    Cancelled,
    ClusterError,
    HarvestError,
    KindCovError,
    ToolNotFound,
    Unfit,
)
from pytest_kindcov.report import place
from pytest_kindcov.session.run import known

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.harvest.podfiles import PodFiles
    from pytest_kindcov.report.tree import Tree
    from pytest_kindcov.service.deploy import Deployed
    from pytest_kindcov.service.goservice import GoService
    from pytest_kindcov.service.provide import Provider
    from pytest_kindcov.service.spec import ServiceSpec
    from pytest_kindcov.session.live import Recording
    from pytest_kindcov.session.run import Run

# Seconds between two looks at booting nodes. One look costs 0.3 s of a processor that kind needs,
# and nodes take images after some 6 s.
_BOOT = 2.0
_READY = 120.0


class Provision:
    """Makes the run's cluster and its services, each once, in threads of its own.

    What becomes of each is published to the run's state directory.

    Args:
        run: that needs them.
        recording: begins with the cluster.

    Attributes:
        cluster: the cluster, also a half-made one: it must be deleted. None before there is any.
        injected: whether its nodes, or the workloads, give GOCOVERDIR.
        files: reads coverage where nodes cannot be reached; else None.
        wanted: keys of the services that were asked for.

    """

    def __init__(self, run: Run, recording: Recording) -> None:
        self.run = run
        self.cluster: KindCluster | None = None
        self.injected = False
        self.files: PodFiles | None = None
        self.wanted: set[str] = set()
        self._recording = recording
        self._lock = threading.Lock()
        self._asked: Future[Engine] | None = None
        self._made: Future[KindCluster] | None = None
        self._tasks: list[Future[None]] = []
        self._sources: Future[tuple[dict[str, str], Tree | None]] | None = None

    @property
    def started(self) -> bool:
        """Whether a cluster was asked for."""
        return self._made is not None

    def ahead(self) -> None:
        """Ask for the engine: it takes a quarter of a second to answer."""
        if self.run.settings.kube_context and not self.run.has_state:
            return  # a cluster that is shared is not asked for nothing
        asked: Future[Engine] = Future()
        self._asked = asked

        def ask() -> None:
            try:
                asked.set_result(self._detect())
            except BaseException as error:  # whoever needs the engine is told
                asked.set_exception(error)

        # Not of the pool: a run that needs no engine waits for no answer.
        threading.Thread(target=ask, name="kindcov-engine", daemon=True).start()

    def start(self) -> None:
        """Begin to make the cluster."""
        _ = self.run.state  # made here, before several threads ask for it
        if self._asked is None:
            self.ahead()
        self.run.begin = time.monotonic()
        self._made = self._pool.submit(self._make_cluster)
        if self.run.settings.coverage:
            self._sources = self._pool.submit(self._record_sources)
        self._tasks.append(self._pool.submit(self._publish_cluster))

    def want(self, specs: list[ServiceSpec]) -> None:
        """Begin to provide those services that are not under way. Not for several threads."""
        for spec in specs:
            if spec.key not in self.wanted:
                self.wanted.add(spec.key)
                self._tasks.append(self._pool.submit(self._provide, spec))

    def end(self) -> None:
        """Begin nothing more, and wait until what is under way is over."""
        self.run.cancel.set()
        # Every task answers for its own errors; here they only have to be over.
        assert self._made is not None
        wait([self._made])
        wait(self._tasks)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def api(self) -> Api:
        """A client of the cluster, as soon as that is made."""
        with self._lock:  # several threads ask first at the same time; importing takes a second
            return self._api

    def sources(self) -> tuple[dict[str, str], Tree | None]:
        """What the services were built from; nothing where that could not be read."""
        try:
            return self._sources.result() if self._sources is not None else ({}, None)
        except OSError as error:
            self.run.outcome.problems.append(f"later changes of the source are not seen: {error}")
            return {}, None

    # The cluster.

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(8, thread_name_prefix="kindcov")

    @property
    def _engine(self) -> Engine:
        assert self._asked is not None
        return self._asked.result()

    def _detect(self) -> Engine:
        from pytest_kindcov.cluster.engine import detect, find_cluster

        settings = self.run.settings
        if settings.kube_context:
            from pytest_kindcov.cluster import external

            return external.connect(
                settings.kube_context,
                self.run.state.directory,
                kubeconfigs=settings.kubeconfig,
                address=settings.address,
                wanted=settings.engine,
                sidecar=settings.sidecar,
            )
        engine = (
            find_cluster(settings.cluster, settings.engine)[0]
            if settings.cluster
            else detect(settings.engine)
        )
        if settings.address != "auto":
            engine = replace(engine, reaches_nodes=settings.address == "node")
        return engine

    @cached_property
    def _api(self) -> Api:
        from pytest_kindcov.cluster.api import Api

        assert self._made is not None
        cluster = self._made.result()
        api = cluster.client or Api(
            cluster.kubeconfig_path, self.run.state.directory / "kinds.json"
        )
        if cluster.ledger is not None:
            ledger = cluster.ledger
            api.noting = lambda obj, namespace: ledger.applying(api, obj, namespace)
        return api

    def _make_cluster(self) -> KindCluster:
        from pytest_kindcov.session.obtain import Obtain

        settings = self.run.settings
        if settings.coverage and not place.writable(settings.dir):
            raise HarvestError(
                f"{settings.dir} cannot be written, where the coverage is to go",
                cause="no permission, a read-only file system, or it is no directory",
                remedy="mend that, or name another directory: --kind-coverage-dir",
                slug="directory-not-writable",
            )
        engine = self._engine
        if not engine.external:
            self._tasks.append(self._pool.submit(self._name_orphans, engine))
        cluster = Obtain(self.run, engine, self._begun).cluster()
        self.run.phase("cluster", self.run.begin)
        if settings.coverage:
            self._cover(cluster)
        return cluster

    def _cover(self, cluster: KindCluster) -> None:
        """Let containers have GOCOVERDIR from now on: by the nodes, else by their workloads."""
        from pytest_kindcov.harvest import inject

        try:
            inject.inject(cluster.nodes, listed=cluster.engine.external)
        except ClusterError as error:
            nodes = cluster.nodes
            if not cluster.do_without_nodes(error.headline):
                raise
            for node in nodes:
                with contextlib.suppress(KindCovError):  # what was changed before can be put back
                    inject.remove([node])
        self.injected = True
        if not cluster.sidecar:
            self._recording.start(cluster.nodes, self.api)
            return
        from pytest_kindcov.harvest.podfiles import PodFiles

        assert cluster.client is not None
        self.files = PodFiles(cluster.client)

    def _begun(self, cluster: KindCluster) -> None:
        self.cluster = cluster

    def _name_orphans(self, engine: Engine) -> None:
        """Say what dead runs left; it is for `kindcov doctor` to remove it."""
        from pytest_kindcov.cluster.orphans import find

        try:
            found = find(engine, engine.clusters())
        except KindCovError:
            return  # the cluster's own error says it
        self.run.outcome.notes += [
            f"found a {orphan}; save its coverage: `kindcov harvest --cluster"
            f" {orphan.owner.cluster}`, remove it: `kindcov doctor --remove`"
            for orphan in found.orphans
            if orphan.nodes
        ]
        self.run.outcome.notes += [
            f"cluster {owner.cluster} ({owner.engine}) was not given back by {owner};"
            " the next run that uses it does that, or `kindcov doctor --remove`"
            for owner in found.borrowed
            if owner.cluster != self.run.settings.cluster
        ]

    def _publish_cluster(self) -> None:
        assert self._made is not None
        try:
            cluster = self._made.result()
            self._wait_node_ready()
            told = {
                "name": cluster.name,
                "directory": str(cluster.path),
                "kubeconfig": str(cluster.kubeconfig_path),
                "kind": str(cluster.kind_path),
                "kubectl": str(cluster.kubectl_path),
                "engine": cluster.engine.name,
            }
        except Exception as error:  # the tests wait for an answer, whatever happens here
            self._failed("cluster", "the cluster", known(error))
        else:
            self.run.state.publish("cluster", told)

    def _wait_node_ready(self) -> None:
        from pytest_kindcov.session.obtain import ANSWERS, wait_ready

        try:
            wait_ready(
                self.api,
                timeout=_READY,
                patience=ANSWERS,
                cancel=self.run.cancel,
                whole=not self._engine.external,
            )
        except ClusterError as error:
            from pytest_kindcov.cluster.failure import explain

            if self._engine.external:
                raise  # its logs are not for us
            assert self.cluster is not None
            name, logs = self.cluster.name, self.run.settings.dir / "logs"
            what = f"cluster {name} ({self._engine.name}): {error.what}"
            raise explain(what, error, self._engine, name, logs, slug="nodes-not-ready") from error

    def _booted(self) -> list[Node]:
        """Wait for nodes that take images while kind works; none when it was quicker."""
        assert self._made is not None
        while wait([self._made], _BOOT).not_done and not self.run.cancel.is_set():
            cluster = self.cluster
            nodes = cluster.booted() if cluster is not None and cluster.created else []
            if nodes:
                return nodes
        return []

    # The services.

    @cached_property
    def _provider(self) -> Provider:
        from pytest_kindcov.service.provide import Provider

        assert self._made is not None
        settings = self.run.settings
        return Provider(
            rootdir=settings.rootdir,
            scratch=self.run.state.directory,
            coverage=settings.coverage,
            kubectl=settings.kubectl_bin,
            engine=lambda: self._engine,
            cluster=self._made.result,
            booted=self._booted,
            api=self.api,
            deploying=self._deploying,
            tell=self.run.tell,
            phase=self.run.phase,
            cancel=self.run.cancel,
            kept=self.run.kept,
        )

    def _record_sources(self) -> tuple[dict[str, str], Tree | None]:
        """What the services are about to be built from, so that later changes are seen."""
        from pytest_kindcov.report import sources, tree

        own = self.run.repository
        return sources.record(own), tree.record(own.root, self.run.settings.rootdir)

    def _provide(self, spec: ServiceSpec) -> None:
        name = f"service-{spec.key}"
        try:
            told = self._deploy(spec).to_dict()
        except Exception as error:  # the tests wait for an answer, whatever happens here
            self._failed(name, f"service {spec.title}", known(error))
        else:
            self.run.state.publish(name, told)

    def _deploy(self, spec: ServiceSpec) -> GoService:
        with (
            self._lock
        ):  # several threads ask first, and what is done once is known to one provider
            provider = self._provider
        service, deployed = provider.provide(spec)
        self.run.deployed.append(deployed)
        return service

    def _deploying(self, deployed: Deployed) -> None:
        if self.run.settings.coverage and self._engine.external:
            from pytest_kindcov.harvest.inject import want

            assert self.cluster is not None
            want(self.cluster.nodes, deployed)
        if deployed.worker:
            self._recording.worker_of |= dict.fromkeys(deployed.namespaces, deployed.worker)

    def _failed(self, name: str, what: str, error: KindCovError) -> None:
        outcome = self.run.outcome
        told = f"{what} could not be provided: {error.headline}"
        value: dict[str, Any] = {"error": told, "slug": error.slug}
        if self.run.settings.missing == "skip" and isinstance(error, ToolNotFound | Unfit):
            value["missing"] = True
            if str(error) not in outcome.skipped:
                outcome.skipped.append(str(error))
        elif not isinstance(error, Cancelled) and str(error) not in map(str, outcome.errors):
            outcome.errors.append(error)
        self.run.state.publish(name, value)
