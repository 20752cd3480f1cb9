"""SIGTERM ends a run like Ctrl-C, and one Ctrl-C more does not cut the harvest short."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What SIGINT and SIGTERM do to a run; in threads other than the main one nothing is done.

    Args:
        tell: prints a line.
        used: whether the run has anything to clean up.

    """

    def __init__(self, tell: Callable[[str], None], used: Callable[[], bool]) -> None:
        self._tell = tell
        self._used = used
        self._before: dict[int, Any] = {}
        self._shielded = False
        self._ignored = 0

    def bridge(self) -> None:
        """SIGTERM interrupts from now on: pytest runs no hook on it, and CI cancels with it.

        Only where nobody else has a handler.
        """
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._handle(signal.SIGTERM, self._terminate)

    def shield(self) -> None:
        """The end begins: the next of both only prints a message, each further one interrupts."""
        if _in_main_thread() and not self._shielded:
            self._shielded = True
            for number in _ENDING:
                self._handle(number, self._refuse)

    def restore(self) -> None:
        """Put back what was there."""
        if _in_main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()

    def _handle(self, number: int, handler: Callable[[int, object], None]) -> None:
        self._before.setdefault(number, signal.signal(number, handler))

    def _terminate(self, _signum: int, _frame: object) -> None:
        if self._used():
            raise KeyboardInterrupt
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _refuse(self, _signum: int, _frame: object) -> None:
        self._ignored += 1
        if self._ignored > 1:
            raise KeyboardInterrupt
        with contextlib.suppress(RuntimeError):  # it came while a line was being printed
            self._tell("the run is being ended; interrupt once more to go without its coverage")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
