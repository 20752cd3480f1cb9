"""What of the run is under way just now: tests, steps inside them, fixtures; by worker."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """What was under way: names of contexts, and a number that differs each time they change."""

    names: tuple[str, ...] = ()
    number: int = 0


class Running:
    """What each worker is at; a plain run has one worker, called "".

    Contexts are nested: while an inner one runs, the outer one does not. The name "" stands for
    waiting, in which nothing is under way.
    """

    def __init__(self) -> None:
        self._stacks: dict[str, list[str]] = {}
        self._changes = 0
        self._changed: dict[str, int] = {}  # by worker
        # Seconds since 1970, and what was under way from then on by worker.
        self._times: list[float] = []
        self._history: list[dict[str, str]] = []

    def enter(self, worker: str, context: str) -> None:
        """A context begins in a worker."""
        self._stacks.setdefault(worker, []).append(context)
        self._note(worker)

    def leave(self, worker: str) -> None:
        """The innermost context of a worker ends."""
        stack = self._stacks.get(worker)
        if stack:
            stack.pop()
        self._note(worker)

    def drop(self, worker: str) -> None:
        """A worker is gone, with all that it was at."""
        self._stacks.pop(worker, None)
        self._note(worker)

    def context(self, worker: str) -> str:
        """The innermost context of a worker, "" when there is none."""
        stack = self._stacks.get(worker)
        return stack[-1] if stack else ""

    def ran(self, worker: str | None = None) -> Ran:
        """What is under way in one worker, or (None) in any."""
        if worker is not None:
            name = self.context(worker)
            return Ran((name,) if name else (), self._changed.get(worker, 0))
        names = {stack[-1] for stack in self._stacks.values() if stack and stack[-1]}
        return Ran(tuple(sorted(names)), self._changes)

    def at(self, when: float, worker: str | None = None) -> tuple[str, ...]:
        """Names of what was under way at a time, in one worker or (None) in any.

        Args:
            when: seconds since 1970.
            worker: its id.

        """
        number = bisect_right(self._times, when) - 1
        if number < 0:
            return ()
        names = self._history[number]
        if worker is not None:
            return (names[worker],) if worker in names else ()
        return tuple(sorted(set(names.values())))

    def _note(self, worker: str) -> None:
        self._changes += 1
        self._changed[worker] = self._changes
        self._times.append(time.time())
        self._history.append(
            {at: stack[-1] for at, stack in self._stacks.items() if any(stack[-1:])}
        )
