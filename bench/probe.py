"""A pytest plugin, `-p probe`: when a measured run did what, and how large it became.

Written as JSON to the file that KINDCOV_BENCH_NOTES names. Tests add to NOTES by themselves.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.harvest.record import Recorder

NOTES: dict[str, Any] = {}
"""`first`, `last`, `reports`: seconds since 1970, when the first test began, the last one ended and
all reports were written. `peak`: MB of memory that the process had at most. With `watch`: `held`,
by test the seconds that it was held up before and after; `booked`: seconds to sort out and write
who ran what.
"""
recorders: list[Recorder] = []
"""Those that were made, with `watch`."""


def peak() -> float:
    """Most memory that this process ever had, in MB. Its children's is not counted."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024 / 1e6


def watch() -> None:
    """Note what attribution costs; called by a conftest, before there is a cluster."""
    from pytest_kindcov.harvest import run
    from pytest_kindcov.harvest.record import Recorder
    from pytest_kindcov.session.live import OwnerLive

    held: dict[str, float] = NOTES.setdefault("held", {})
    contexts: list[str] = []
    made: Callable[..., None] = Recorder.__init__
    enter, leave = OwnerLive.enter, OwnerLive.leave

    def making(self: Recorder, *args: Any) -> None:
        made(self, *args)
        recorders.append(self)

    def entering(self: OwnerLive, context: str) -> None:
        begin = time.perf_counter()
        enter(self, context)
        contexts.append(context)
        held[context] = held.get(context, 0.0) + time.perf_counter() - begin

    def leaving(self: OwnerLive) -> None:
        begin = time.perf_counter()
        leave(self)
        held[contexts.pop()] += time.perf_counter() - begin

    def booking(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                NOTES["booked"] = NOTES.get("booked", 0.0) + time.perf_counter() - begin

        return timed

    for owner, name, function in (
        (Recorder, "__init__", making),
        (OwnerLive, "enter", entering),
        (OwnerLive, "leave", leaving),
        (Recorder, "contexts", booking(Recorder.contexts)),
        (run, "_write_contexts", booking(run._write_contexts)),
    ):
        setattr(owner, name, function)


def pytest_runtest_call() -> None:
    """The first test is about to begin."""
    NOTES.setdefault("first", time.time())


def pytest_runtest_logfinish() -> None:
    """Perhaps the last one ended."""
    NOTES["last"] = time.time()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Before the harvest: be told of its end."""
    if not session.config.pluginmanager.hasplugin("kindcov"):
        return
    from pytest_kindcov.report import finish

    real = finish.finish

    def finished(*args: Any, **named: Any) -> Any:
        try:
            return real(*args, **named)
        finally:
            NOTES["reports"] = time.time()

    finish.finish = finished


def pytest_unconfigure() -> None:
    """Write what was noted."""
    NOTES["peak"] = peak()
    Path(os.environ["KINDCOV_BENCH_NOTES"]).write_text(json.dumps(NOTES))
