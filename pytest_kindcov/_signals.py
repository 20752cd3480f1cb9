"""SIGTERM ends a run like Ctrl-C, and one Ctrl-C more does not cut the harvest short."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM)


class TermBridge:
    """Turns SIGTERM into KeyboardInterrupt: pytest runs no hook on SIGTERM; CI cancels with it."""

    def __init__(self) -> None:
        self._before: Any = None
        self._installed = False

    def install(self) -> None:
        """Install the handler; only in the main thread and only where nobody else has one."""
        if self._installed or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        self._before = signal.signal(signal.SIGTERM, _interrupt)
        self._installed = True

    def remove(self) -> None:
        """Put back what was there."""
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)
            self._installed = False


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def shield(tell: Callable[[str], None]) -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM only prints a message; the second interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def handler(_signum: int, _frame: object) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            raise KeyboardInterrupt
        tell("coverage is being saved and the cluster deleted; interrupt once more to give up")

    before = {number: signal.signal(number, handler) for number in _ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
