"""What every step of the build needs: progress lines, commands with deadlines, a lock, errors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

HEARTBEAT = 15.0
"""Seconds between two lines of a long step: CI systems take silence for a hang."""

_START = time.monotonic()
_TELL = threading.Lock()


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do."""


def say(text: str) -> None:
    """Print one progress line with the seconds since the start to stderr."""
    with _TELL:
        sys.stderr.write(f"[{time.monotonic() - _START:5.0f} s] {text}\n")
        sys.stderr.flush()


def _tail(log: Path, lines: int) -> str:
    with log.open("rb") as f:
        f.seek(max(0, log.stat().st_size - 8192))
        text = f.read().decode(errors="replace")
    return "\n".join(line for line in text.splitlines()[-lines:] if line.strip())


def run(
    what: str,
    command: Sequence[str],
    *,
    log: Path,
    deadline: float,
    remedy: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
) -> str:
    """Run a command to its end and return what it wrote.

    The output goes to `log`; while it runs, a heartbeat line shows the last of it. `deadline` is in
    seconds; a command that is late is stopped with all that it started.

    Raises:
        BuildError: it cannot be started, fails or is late; shows the command, its exit code, last
            lines and `remedy`.

    """
    say(f"{what} …")
    begin = time.monotonic()
    shown = shlex.join(command)
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as e:
            raise BuildError(f"{what}: cannot run {shown}: {e}\nremedy: {remedy}") from e
        try:
            while True:
                left = deadline - (time.monotonic() - begin)
                try:
                    code = process.wait(min(HEARTBEAT, max(left, 0.01)))
                    break
                except subprocess.TimeoutExpired:
                    spent = time.monotonic() - begin
                    if spent >= deadline:
                        raise BuildError(
                            f"{what}: stopped after {deadline:.0f} s: {shown}\n{_tail(log, 15)}\n"
                            f"remedy: {remedy or 'try again: finished stages are kept'}"
                        ) from None
                    last = _tail(log, 1)
                    say(f"{what}: {spent:.0f} s{': ' + last[:120] if last else ''}")
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code != 0:
        raise BuildError(
            f"{what}: exit code {code}: {shown}\n{_tail(log, 15)}\n"
            f"remedy: {remedy or 'see the lines above; finished stages are kept'}\nwhole log: {log}"
        )
    say(f"{what}: done in {time.monotonic() - begin:.0f} s")
    return log.read_text(errors="replace")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; say so while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as f:
        begin = last = time.monotonic()
        waiting = False
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting or time.monotonic() - last > HEARTBEAT:
                    say(f"another build holds {path}: waiting, {time.monotonic() - begin:.0f} s")
                    waiting, last = True, time.monotonic()
                time.sleep(0.2)
        yield
