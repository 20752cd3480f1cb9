"""Waiting with a deadline, a fast way out, and an error that says what was last seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from pytest_kindcov.errors import Cancelled, KindCovError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(
    ready: Callable[[], T | None],
    *,
    what: str,
    timeout: float,
    interval: float = 0.1,
    state: Callable[[], str] = lambda: "",
    remedy: str = "",
    slug: str = "not-in-time",
    cancel: threading.Event | None = None,
    error: Callable[..., KindCovError] = KindCovError,
) -> T:
    """Call `ready` until it returns something true, and return that.

    Args:
        ready: may raise an error of its own to give up at once.
        what: what is waited for, for the error.
        timeout: seconds.
        interval: seconds between two calls.
        state: describes the last state seen, for the error.
        remedy: for the error.
        slug: of the error, its name in `docs/messages.md`.
        cancel: when set, `Cancelled` is raised.
        error: class of the error at the deadline, or what makes it of the same arguments.

    """
    deadline = time.monotonic() + timeout
    while True:
        value = ready()
        if value:
            return value
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"stopped waiting for {what}", cause="the run was interrupted")
        if time.monotonic() >= deadline:
            raise error(
                f"{what}: not within {timeout:.0f} s", cause=state(), remedy=remedy, slug=slug
            )
        time.sleep(interval)
