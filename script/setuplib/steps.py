"""Running commands for the set-up: each with a deadline, each visible while it takes long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]

PROGRESS_EVERY = 15.0  # seconds: under the time after which people think that it hangs
GRACE = 5.0  # seconds between asking a command to end and making it
ERROR_LINES = 12  # of a failed command's output: what pip and apt end with fits
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on an ordinary user's PATH on Debian


class SetupError(Exception):
    """The set-up cannot go on; the text names what is missing and the remedy."""


class Result(NamedTuple):
    """A finished command: exit code (124: out of time, 127: not there) and its output."""

    code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """The last lines of what it said: stderr, or else stdout."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return "\n".join(lines[-ERROR_LINES:])


def say(text: str) -> None:
    """Write one line for the user (stderr: stdout may be somebody's `eval`)."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a long step, and say how long it took."""
    say(f"set-up: {text} ...")
    start = time.monotonic()
    yield
    say(f"set-up: {text}: done in {time.monotonic() - start:.0f} s")


def ask(
    command: Sequence[str | Path],
    timeout: float,
    env: Mapping[str, str] | None = None,
    *,
    show_stderr: bool = False,
) -> Result:
    """Run a command to its end or for `timeout` seconds; never raises for what it does.

    Runs in a process group of its own, which is ended whole when time is up. A line of progress
    is written every `PROGRESS_EVERY` seconds, unless its stderr is shown (`show_stderr`).
    """
    argv = [str(part) for part in command]
    # Files, not pipes: a daemon that a command leaves behind would keep a pipe open for ever.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=None if show_stderr else err,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        except OSError as error:
            return Result(127, "", f"{argv[0]}: {error.strerror}")
        start = time.monotonic()
        late = False
        try:
            while process.poll() is None:
                spent = time.monotonic() - start
                if spent >= timeout:
                    late = True
                    break
                try:
                    process.wait(min(PROGRESS_EVERY, timeout - spent))
                except subprocess.TimeoutExpired:
                    if not show_stderr and time.monotonic() - start < timeout:
                        say(f"        {time.monotonic() - start:4.0f} s  {Path(argv[0]).name}")
        finally:
            if process.poll() is None:  # out of time, or Ctrl-C
                end_group(process)
        out.seek(0)
        err.seek(0)
        note = f"\nout of time after {timeout:g} s: {' '.join(argv)}" if late else ""
        return Result(124 if late else process.returncode, out.read(), err.read() + note)


def end_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process and its group; it has a moment to end what it put into other groups."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def must(
    command: Sequence[str | Path],
    timeout: float,
    remedy: str,
    env: Mapping[str, str] | None = None,
    *,
    show_stderr: bool = False,
) -> str:
    """Run a command which has to work; give its stdout.

    Raises SetupError with the command, its exit code, its last lines and the remedy.
    """
    result = ask(command, timeout, env, show_stderr=show_stderr)
    if result.code != 0:
        text = " ".join(str(part) for part in command)
        raise SetupError(f"{text}\nended with {result.code}:\n{result.tail}\n{remedy}")
    return result.out


def foreground(
    command: Sequence[str | Path], cwd: Path, timeout: float, env: dict[str, str]
) -> int:
    """Run a command on this terminal; give its exit code (124: out of time).

    SIGTERM is handed on and Ctrl-C reaches it by itself; either way it gets time to clean up
    (a run that is killed at once leaves its cluster behind).
    """
    cleanup = 90.0  # seconds to delete a cluster and write the reports
    process = subprocess.Popen([str(part) for part in command], cwd=cwd, env=env)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    late = False
    try:
        try:
            process.wait(timeout)
        except KeyboardInterrupt:
            process.wait(cleanup)
        except subprocess.TimeoutExpired:
            late = True
            say(f"out of time after {timeout:.0f} s: {' '.join(str(part) for part in command)}")
            process.terminate()
            process.wait(cleanup)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return 124 if late else process.returncode
