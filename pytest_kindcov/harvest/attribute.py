"""The ledger of who ran what: every count that was read is booked once, to what ran just then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.model import covered
from pytest_kindcov.harvest.background import Background, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters
    from pytest_kindcov.harvest.running import Ran

    Units = npt.NDArray[np.int32]
    Sighted = tuple[Units, Counters]
    """Units, ascending, and how often each ran."""

BACKGROUND = "background"
"""The context of what a service does by itself."""
STARTUP = "[startup]"
"""The context of what a process did at its start, when no test and no fixture was under way."""
SHUTDOWN = "[shutdown]"
"""The context of what a process did after its last reading: its exit file says it."""


def shared(context: str) -> str:
    """The name of a context that was not alone with the process."""
    return f"{context} [shared]"


@dataclass(eq=False)
class _Open:
    """A window that is still added to."""

    ran: Ran
    begin: float
    end: float
    total: Counters


class Account:
    """The bookings of one process.

    Args:
        build: hash of its meta data.
        units: U, how many units it has.

    """

    def __init__(self, build: bytes, units: int) -> None:
        self.build = build
        self.background = Background()
        self.windows: list[Window] = []
        """What ran while something of the run was under way, and at start and end."""
        self.idle = np.zeros(units, np.uint32)
        """uint32[U], what ran while nothing was under way."""
        self._open: _Open | None = None
        self.starting = True
        """Whether it has not been quiet yet, nor been used by anything of the run."""

    def book(self, ran: Ran, begin: float, end: float, delta: Counters | None) -> None:
        """Book what the process did between two readings.

        Args:
            ran: what was under way.
            begin: seconds, of the reading before.
            end: seconds, of this one.
            delta: uint32[U], or None when it did nothing.

        """
        if self._open is not None and (self._open.ran != ran or (delta is None and not ran.names)):
            self.close()  # something else is under way, or an event of the background is over
        if not ran.names and not self.starting:
            self.background.watched(begin, end)
        if delta is None:
            return
        if self._open is None:
            self._open = _Open(ran, begin, end, np.zeros_like(self.idle))
        self._open.total += delta
        self._open.end = end

    def close(self) -> None:
        """End the window: what comes now belongs to something else."""
        if self._open is None:
            return
        opened, self._open = self._open, None
        units = np.flatnonzero(covered(opened.total)).astype(np.int32)
        counts = opened.total[units]
        if opened.ran.names == (BACKGROUND,):
            self.idle += opened.total  # it did not come by itself: it says nothing of when it does
        elif opened.ran.names or self.starting:
            names = opened.ran.names or (STARTUP,)
            self.windows.append(Window(names, opened.begin, opened.end, units, counts))
        else:
            self.idle += opened.total
            self.background.saw(opened.begin, opened.end, units, counts)
        self.starting = False

    def acted(self) -> Sighted | None:
        """What ran when something was done in the background's stead, and end that."""
        opened = self._open
        if opened is None or opened.ran.names != (BACKGROUND,):
            return None
        self.close()
        units = np.flatnonzero(covered(opened.total)).astype(np.int32)
        return units, opened.total[units]

    def add(self, names: tuple[str, ...], delta: Counters) -> None:
        """Book what was not read in time, such as an exit file's counts: uint32[U]."""
        self.close()
        units = np.flatnonzero(covered(delta)).astype(np.int32)
        if len(units):
            self.windows.append(Window(names, 0.0, 0.0, units, delta[units]))

    def contexts(self, periods: Sequence[float] = ()) -> Iterable[tuple[str, Units]]:
        """Who ran what: names of contexts, and units, ascending; a name may come again.

        What the background explains stands under `background`, and not under the test into which
        it fell.

        Args:
            periods: seconds, of the probes that the process' pod declares.

        """
        self.close()
        yield BACKGROUND, np.flatnonzero(covered(self.idle)).astype(np.int32)
        explained = self.background.explain(self.windows, periods)
        for window, by_itself in zip(self.windows, explained, strict=True):
            yield BACKGROUND, window.units[by_itself]
            for name in window.contexts:
                label = shared(name) if len(window.contexts) > 1 else name
                yield label, window.units[~by_itself]


def contexts(
    accounts: Iterable[tuple[Account, Sequence[float]]],
) -> dict[str, dict[bytes, Units]]:
    """Who ran what, over all processes: by context and by build, int32[N] units, ascending.

    Args:
        accounts: each with the periods of its probes, in seconds, as far as they are declared.

    """
    accounts = list(accounts)
    for account, _ in accounts:
        account.close()
    for account, _ in accounts:
        for other, _ in accounts:
            if other is not account and other.build == account.build:
                account.background.borrow(other.background)
    found: dict[str, dict[bytes, list[Units]]] = {}
    for account, periods in accounts:
        for name, units in account.contexts(periods):
            if len(units):
                found.setdefault(name, {}).setdefault(account.build, []).append(units)
    return {
        name: {build: np.unique(np.concatenate(parts)) for build, parts in builds.items()}
        for name, builds in found.items()
    }
