"""Gives up on a cluster whose kubelet cannot start: kubeadm would wait for it for four minutes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.node import Node
from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.engine import Engine

# Seconds to the first look, and between two. Most clusters are made before the second.
_FIRST = 40.0
_LOOK = 10.0
# A kubelet that dies at once is started again every 1.5 s, and a healthy one not at all.
_RESTARTS = 20
_EXEC = 20.0


class Watch(threading.Event):
    """Set when there is no hope. Another event is looked at too, so that it can stand for both.

    Args:
        engine: of the cluster.
        cluster: its name.
        cancel: the run's.

    """

    def __init__(self, engine: Engine, cluster: str, cancel: threading.Event | None) -> None:
        super().__init__()
        self.why = ""
        """What was seen; empty when it was `cancel` that was set, or nothing."""
        self._engine = engine
        self._cluster = cluster
        self._cancel = cancel
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kindcov-watch", daemon=True)
        self._thread.start()

    def is_set(self) -> bool:
        """Whether to give up."""
        return super().is_set() or (self._cancel is not None and self._cancel.is_set())

    def close(self) -> None:
        """Look no longer."""
        self._over.set()

    def _look(self) -> None:
        pause = _FIRST
        while not self._over.wait(pause):
            pause = _LOOK
            try:
                node = Node(self._engine.nodes(self._cluster)[0], self._engine)
                told = node.run(
                    ["systemctl", "show", "--property=NRestarts", "--value", "kubelet"],
                    timeout=_EXEC,
                ).text
            except (KindCovError, IndexError):
                continue  # there is no node yet, or it is busy: kind itself will say what is wrong
            if told.isdigit() and int(told) >= _RESTARTS:
                self.why = f"The kubelet is not healthy: it ended {told} times"
                self.set()
                return
