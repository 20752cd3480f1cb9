"""SIGTERM and Ctrl-C, before the end and during it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_kindcov._signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def signals(said: list[str]) -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signals = Signals(said.append, lambda: True)
    yield signals
    signals.restore()
    assert {number: signal.getsignal(number) for number in before} == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_interrupts(signals: Signals) -> None:
    signals.bridge()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


def test_the_handler_of_somebody_else_stays(signals: Signals) -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        signals.bridge()
        send(signal.SIGTERM)
        assert seen == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_at_the_end_is_refused(
    signals: Signals, said: list[str], first: int, second: int
) -> None:
    signals.bridge()
    signals.shield()
    signals.shield()
    send(first)
    assert len(said) == 1
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            send(second)
    assert len(said) == 1


def test_a_line_that_is_being_printed_does_not_break() -> None:
    def tell(_line: str) -> None:
        raise RuntimeError("reentrant call")  # as io's buffers do in a handler

    signals = Signals(tell, lambda: True)
    signals.shield()
    try:
        send(signal.SIGINT)
    finally:
        signals.restore()


def test_a_run_without_a_cluster_ends_as_ever() -> None:
    """xdist's controller waits for workers' late wishes with the handler in place."""
    code = (
        "import os, signal; from pytest_kindcov._signals import Signals;"
        "signals = Signals(print, lambda: False); signals.bridge();"
        "os.kill(os.getpid(), signal.SIGTERM); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
