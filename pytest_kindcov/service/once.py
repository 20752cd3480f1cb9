"""What a run's services share: things that are done once, and things that one alone may have."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindcov.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Once:
    """Does each thing once, in the thread that asks first; the others wait for its result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, Future[Any]] = {}

    def __call__(self, key: str, make: Callable[[], T]) -> T:
        """The result of `make`, or its error, whoever called it."""
        with self._lock:
            known = self._results.get(key)
            result: Future[T] = known or Future()
            self._results[key] = result
        if known is None:
            try:
                result.set_result(make())
            except BaseException as error:  # who waits must hear of an interrupt as well
                result.set_exception(error)
        return result.result()


class Claims:
    """Who has what on the cluster: two services may have the same thing, but not want it unlike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[object, str]] = {}

    def claim(self, thing: str, value: object, holder: str, *, cause: str, remedy: str) -> None:
        """Take a thing in a shape.

        Raises:
            ManifestError: another service has taken it in another shape.

        """
        with self._lock:
            held, other = self._held.setdefault(thing, (value, holder))
        if held != value:
            both = f"both services {other}" if other == holder else f"services {other} and {holder}"
            raise ManifestError(
                f"{both} have {thing}", cause=cause, remedy=remedy, slug="services-collide"
            )
