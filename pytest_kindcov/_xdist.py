"""pytest-xdist's hooks, registered only where xdist is loaded: the controller is the owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_kindcov.session.owner import Owner

STATE_KEY = "kindcov_state"


class XdistHooks:
    """Tells workers where the owner publishes, and hears what they want."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._watching = False

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Refuse workers elsewhere: kubeconfig, address and state directory are only good here."""
        if config.option.dist == "each" and self._owner.settings.coverage:
            raise pytest.UsageError(
                "kindcov: --dist=each runs each test in each worker, and coverage would count it"
                " as often; say --dist=load, or another that shares them out"
            )
        remote = [str(spec) for spec in specs if not spec.popen]
        if remote and self._owner.settings.coverage:
            raise pytest.UsageError(
                f"kindcov: xdist worker {remote[0]} is not on this machine; use -n"
            )

    def pytest_configure_node(self, node: Any) -> None:
        """Hand the state directory to a worker; also to one that replaces a crashed worker."""
        node.workerinput[STATE_KEY] = str(self._owner.state.directory)
        self._owner.serve()

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker is gone; if it crashed, its test is no longer under way."""
        self._owner.forget(node.workerinput["workerid"])

    def pytest_xdist_node_collection_finished(self) -> None:
        """A worker has said what its tests need, by a file, before it sent its collection."""
        self._owner.read_inbox()
        if not self._watching:
            self._watching = True
            self._owner.watch_inbox()
