"""The value of the `kindcov` fixture: the run, as its tests see it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindcov.options import Settings
    from pytest_kindcov.service.goservice import Coverage
    from pytest_kindcov.state import Live


class KindCov:
    """The run: its settings, and its coverage while it goes on.

    Args:
        settings: of the run.
        live: what records it.
        nodeid: gives the test that is under way.

    """

    def __init__(self, settings: Settings, live: Live, nodeid: list[str]) -> None:
        self.settings = settings
        self._live = live
        self._nodeid = nodeid

    @contextlib.contextmanager
    def context(self, name: str) -> Iterator[None]:
        """A step of a test, such as `with kindcov.context("checkout"):`.

        What runs in it stands under `TEST|NAME`. Without `--kind-coverage` it does nothing.
        """
        if not self._attributes:
            yield
            return
        self._live.enter("|".join([*self._nodeid, name]))
        self._nodeid.append(name)
        try:
            yield
        finally:
            self._nodeid.pop()
            self._live.leave()

    def settle(self, quiet: float = 0.1) -> bool:
        """Wait until the services did nothing but background work for `quiet` seconds.

        Returns:
            Whether they became quiet: within ten times as long, or 5 s if that is longer.

        """
        return self._live.settle(quiet) if self.settings.coverage else True

    def snapshot(self) -> Coverage:
        """What all services ran so far, in statements by package.

        Raises:
            KindCovError: the run is without coverage.

        """
        if not self.settings.coverage:
            raise KindCovError(
                "there is no coverage to show",
                remedy="run pytest with --kind-coverage",
                slug="coverage-off",
            )
        return self._live.coverage()

    @property
    def _attributes(self) -> bool:
        return self.settings.coverage and self.settings.context == "test"
