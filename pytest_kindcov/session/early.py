"""A new cluster, used before kind is done with it.

From the API server's first answer to kind's end pass some seconds, in which pods can wait for their
node as well as we.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.session.run import Run

# Seconds between two looks at booting nodes. One look costs 0.3 s of a processor that kind needs,
# and nodes take images after some 6 s.
_BOOT = 2.0
# Seconds between two questions to an API server that comes up: refused, they cost next to nothing.
_ANSWER = 0.3


class Early:
    """Finds when a cluster can be used.

    Args:
        run: that makes it.
        made: ends when kind is done, and the cluster injected.
        begun: gives the cluster as soon as there is something of it.
        inject: makes nodes give GOCOVERDIR.

    Attributes:
        usable: the cluster, as soon as it takes workloads.

    """

    def __init__(
        self,
        run: Run,
        made: Future[KindCluster],
        begun: Callable[[], KindCluster | None],
        inject: Callable[[list[Node]], None],
    ) -> None:
        self.usable: Future[KindCluster] = Future()
        self._run = run
        self._made = made
        self._begun = begun
        self._inject = inject
        self._settling = threading.Lock()
        made.add_done_callback(self._settle)

    def open(self, booted: Future[list[Node]]) -> None:
        """Let services be applied as soon as the API server takes them."""
        if self._run.settings.kind_config:
            return  # of several nodes one may be late, and its first pods without coverage
        try:
            nodes, cluster = booted.result(), self._begun()
            client = self._first_answer(cluster) if nodes and cluster else None
            if cluster is None or client is None:
                return
            if self._run.settings.coverage:
                self._inject(nodes)
        except KindCovError:
            return  # when kind is done it is tried again, and tells
        with self._settling:
            if not self.usable.done():
                cluster.nodes, cluster.client = nodes, client
                self.usable.set_result(cluster)

    def wait_booted(self) -> list[Node]:
        """Wait for nodes that take images; none when kind was quicker."""
        while wait([self._made], _BOOT).not_done and not self._run.cancel.is_set():
            cluster = self._begun()
            nodes = cluster.booted() if cluster is not None and cluster.created else []
            if nodes:
                return nodes
        return []

    def _first_answer(self, cluster: KindCluster) -> Api | None:
        """A client of an API server that is ready for workloads; None when kind was quicker."""
        from pytest_kindcov.cluster.api import Api

        directory = self._run.state.directory
        kubeconfig = directory / "early.kubeconfig"  # the cluster's own is kind's to write
        client, pause = None, _BOOT
        while wait([self._made], pause).not_done and not self._run.cancel.is_set():
            try:
                if not kubeconfig.exists():
                    cluster.write_kubeconfig(kubeconfig)
                    pause = _ANSWER
                client = client or Api(kubeconfig, directory / "kinds.json")
                if client.get("v1", "ServiceAccount", "default", "default"):
                    return client
            except Exception:  # noqa: S112  # the client's own: an API server that comes up says anything
                continue
        return None

    def _settle(self, made: Future[KindCluster]) -> None:
        """Whoever waits for a cluster that can be used has one, or is told why not."""
        with self._settling:
            if self.usable.done():
                return
            error = made.exception()
            if error is not None:
                self.usable.set_exception(error)
            else:
                self.usable.set_result(made.result())
