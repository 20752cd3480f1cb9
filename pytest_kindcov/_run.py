"""External commands: a deadline, a process session of their own, errors that say what happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pytest_kindcov.errors import Cancelled, CommandError, ToolNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# How often a running command looks whether the run was cancelled. A finished command is noticed
# at once; this only bounds how late a Ctrl-C takes effect.
_CANCEL_POLL = 0.2
_LAST_LINES = 20


@dataclass(frozen=True)
class Output:
    """What a command printed."""

    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last line break."""
        return self.stdout.decode(errors="replace").rstrip("\n")


def run(
    args: Sequence[str | Path],
    *,
    timeout: float,
    stdin: bytes | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cancel: threading.Event | None = None,
) -> Output:
    """Run a command to its end and return what it printed.

    The command gets a process session of its own, so that a Ctrl-C in the terminal reaches pytest
    and not, half-way through, `kind create`.

    Args:
        args: program and arguments; never a shell string.
        timeout: seconds until the command, with all its children, is killed.
        stdin: bytes or an open file to feed to the command.
        env: the whole environment, default: ours.
        cwd: working directory.
        cancel: when set, the command is killed and `Cancelled` raised.

    Raises:
        ToolNotFound: the program does not exist.
        CommandError: exit code other than 0, or over the deadline.
        Cancelled: `cancel` was set.

    """
    words = [str(arg) for arg in args]
    if cancel is not None and cancel.is_set():
        raise Cancelled(f"{words[0]} was not started", cause="the run was interrupted")
    source = _as_file(stdin) if isinstance(stdin, bytes) else stdin
    try:
        process = subprocess.Popen(
            words,
            stdin=source or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise CommandError(f"cannot run {words[0]}", cause=f"no directory {cwd}") from error
        raise ToolNotFound(
            f"{words[0]} was not found",
            remedy=f"install {words[0]} or put it on PATH",
            slug="tool-missing",
        ) from error
    deadline = time.monotonic() + timeout
    try:
        while True:
            remaining = deadline - time.monotonic()
            try:
                stdout, stderr = process.communicate(timeout=min(_CANCEL_POLL, remaining))
                break
            except subprocess.TimeoutExpired:
                if cancel is not None and cancel.is_set():
                    raise Cancelled(
                        f"{shown(words)} was stopped", cause="the run was interrupted"
                    ) from None
                if time.monotonic() >= deadline:
                    _end_group(process)
                    stdout, stderr = process.communicate()
                    raise CommandError(
                        f"{shown(words)} did not end within {timeout:.0f} s",
                        cause=last_lines(stderr),
                        output=(stderr.strip() or stdout.strip()).decode(errors="replace"),
                    ) from None
    finally:
        kill(process)
        if source is not None and source is not stdin:
            source.close()
    if process.returncode != 0:
        raise CommandError(
            f"{shown(words)} failed with exit code {process.returncode}",
            cause=last_lines(stderr) or last_lines(stdout),
            output=(stderr.strip() or stdout.strip()).decode(errors="replace"),
            code=process.returncode,
        )
    return Output(stdout, stderr)


def head(args: Sequence[str | Path], limit: int, *, timeout: float) -> bytes:
    """The first bytes of what a command prints; it is ended when there are more.

    Raises:
        CommandError: exit code other than 0, or over the deadline.

    """
    process = subprocess.Popen(
        [str(arg) for arg in args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _end_group(process)

    timer = threading.Timer(timeout, expire)
    try:
        timer.start()
        assert process.stdout is not None
        data = process.stdout.read(limit)
        whole = len(data) < limit
        if whole:
            _, stderr = process.communicate()
    finally:
        timer.cancel()
        kill(process)
    if expired.is_set():
        raise CommandError(f"{shown(args)} did not end within {timeout:.0f} s")
    if whole and process.returncode != 0:
        raise CommandError(
            f"{shown(args)} failed with exit code {process.returncode}", cause=last_lines(stderr)
        )
    return data


def _as_file(data: bytes) -> IO[bytes]:
    """Input as a nameless file: a second `communicate` forgets to go on writing a pipe."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(data)
    file.seek(0)
    return file


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started with `start_new_session`, with its children and pipes."""
    if process.poll() is None:
        _end_group(process)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def shown(args: Sequence[str | Path]) -> str:
    """A command as a person reads it: the program's base name, long lists cut."""
    words = [str(arg) for arg in args]
    line = " ".join([os.path.basename(words[0]), *words[1:]])  # noqa: PTH119 (not a path we open)
    line = " ".join(line.split())  # a script is one line here
    return line if len(line) <= 160 else f"{line[:157]}..."


def last_lines(output: bytes, count: int = _LAST_LINES) -> str:
    """The last lines of an output, as text."""
    lines = output.decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-count:])


def pipe(source: Sequence[str], sinks: Sequence[Sequence[str]], *, timeout: float) -> None:
    """Feed the output of one command to others at once, without a temporary file.

    Args:
        source: the command that writes.
        sinks: commands that each read all of it.
        timeout: seconds for the whole.

    """
    started: list[subprocess.Popen[bytes]] = []
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        for process in started:
            _end_group(process)

    timer = threading.Timer(timeout, expire)
    try:
        writer = subprocess.Popen(
            source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        started.append(writer)
        started += [
            subprocess.Popen(
                sink,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            for sink in sinks
        ]
        timer.start()
        assert writer.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            while chunk := writer.stdout.read(1 << 20):
                for process in started[1:]:
                    assert process.stdin is not None
                    process.stdin.write(chunk)
        # A failed reader is the cause of a failed writer: look at the readers first.
        for process, words in [*zip(started[1:], sinks, strict=True), (writer, source)]:
            _, stderr = process.communicate()
            if process.returncode != 0:
                why = f"did not end within {timeout:.0f} s" if expired.is_set() else "failed"
                raise CommandError(f"{shown(words)} {why}", cause=last_lines(stderr))
    finally:
        timer.cancel()
        for process in started:
            kill(process)
