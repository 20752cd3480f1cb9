"""One long-lived program in a node that is asked by lines and answers with frames.

A fresh `exec` costs 0.07 to 0.2 s, a request to a program that is already there 0.1 ms. What goes
in is one line; what comes out is a frame: u32, little-endian, the number of bytes that follow; with
its highest bit set, those bytes are an error message. One request is under way at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

from pytest_kindcov._run import kill, last_lines, shown
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pytest_kindcov.cluster.node import Node

_ERROR = 1 << 31
_HEAD = 4
# Bytes. Fifty processes of a large Kubernetes controller are 6.3 MB.
MAX_ANSWER = 320 << 20
_CHUNK = 1 << 20
_STDERR = 8 << 10
# Seconds until the first answer, the start of the program included: as `Node.run`'s.
_START = 60.0
# Seconds that the program has to end by itself when its input ends. Then it leaves nothing on the
# node, which an engine's client that is killed may.
_END = 0.5


class Refusal(ClusterError):
    """The program answered this request with an error; it goes on."""

    slug = "node-shell-refused"


class Shell:
    """A program in a node. Not for several threads at once.

    It is started by the first request, and again by the first one after it broke. Whatever breaks
    off an answer, be it a Ctrl-C, ends the program: requests and answers never get out of step.

    Args:
        node: where.
        command: program and arguments.
        max_answer: bytes; a longer answer breaks it.

    Attributes:
        generation: how often it was started; what the program knew is lost when this changes.

    """

    def __init__(self, node: Node, command: Sequence[str], *, max_answer: int = MAX_ANSWER) -> None:
        self.node = node
        self.generation = 0
        self._command = list(command)
        self._max_answer = max_answer
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = b""
        self._pending = 0  # answers
        self._proven = False

    def ask(self, request: bytes, timeout: float) -> bytes:
        """Send one request and return its answer; see `send` and `receive`."""
        assert request.count(b"\n") == 1
        self.send(request, timeout)
        return self.receive(timeout)

    def send(self, request: bytes, timeout: float) -> None:
        """Send requests, whose answers `receive` must fetch before the next are sent.

        Args:
            request: a line with its line break; or more, each of which is answered.
            timeout: seconds for the sending.

        Raises:
            ClusterError: the program cannot be started, has ended, or does not read.

        """
        assert request.endswith(b"\n")
        if self._pending or (self._process is not None and self._process.poll() is not None):
            self.close()
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        out = self._process.stdin.fileno()
        deadline = time.monotonic() + timeout
        self._pending = request.count(b"\n")
        rest = memoryview(request)
        try:
            while rest:
                try:
                    rest = rest[os.write(out, rest) :]
                except BlockingIOError:
                    self._wait(out, select.POLLOUT, deadline, timeout)
                except BrokenPipeError:
                    self._broken("ended")
        except BaseException:
            self._end(0)
            raise

    def receive(self, timeout: float) -> bytes:
        """The answer to the first request that has none yet.

        Args:
            timeout: seconds for the whole answer; for the first one of a program at least a minute.

        Raises:
            Refusal: the program says why it cannot do this.
            ClusterError: it ended, did not answer in time, or answered nonsense; it is closed.

        """
        process = self._process
        if process is None or not self._pending:
            raise ClusterError(
                f"node {self.node.name}: nothing was asked of its shell", slug="node-shell-broken"
            )
        assert process.stdout is not None
        source = process.stdout.fileno()
        seconds = timeout if self._proven else max(timeout, _START)
        deadline = time.monotonic() + seconds
        try:
            head = int.from_bytes(self._read(source, _HEAD, deadline, seconds), "little")
            length = head & ~_ERROR
            if length > self._max_answer:
                self._broken(f"answered with {length} bytes, more than is plausible")
            answer = self._read(source, length, deadline, seconds)
        except BaseException:
            self._end(0)
            raise
        self._pending -= 1
        self._proven = True
        if head & _ERROR:
            raise Refusal(f"node {self.node.name}: {answer.decode(errors='replace').strip()}")
        return answer

    def close(self) -> None:
        """End the program, with all its processes; the next request starts a new one."""
        self._end(_END)

    def _start(self) -> subprocess.Popen[bytes]:
        args = self.node.engine.exec_args(self.node.name, self._command)
        try:
            process = subprocess.Popen(
                args,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ClusterError(
                f"node {self.node.name}: cannot run {shown(args[:1])}",
                cause=str(error),
                remedy=f"install {args[0]} or put it on PATH",
                slug="tool-missing",
            ) from error
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux; fewer wake-ups for large answers
            with contextlib.suppress(OSError):
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _CHUNK)  # type: ignore[arg-type]
        self._stderr = b""
        self._proven = False
        self.generation += 1
        return process

    def _read(self, source: int, length: int, deadline: float, seconds: float) -> bytes:
        """Exactly `length` bytes; memory grows as they come, not as they are announced."""
        parts = []
        while length:
            try:
                part = os.read(source, min(length, _CHUNK))
            except BlockingIOError:
                self._wait(source, select.POLLIN, deadline, seconds)
                continue
            if not part:
                self._broken("ended")
            parts.append(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wait(self, wanted: int, event: int, deadline: float, seconds: float) -> None:
        """Until a pipe can be used; what comes on standard error meanwhile is kept."""
        assert self._process is not None
        assert self._process.stderr is not None
        errors = self._process.stderr.fileno()
        poll = select.poll()
        poll.register(wanted, event)
        poll.register(errors, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(max(left, 0) * 1000))
            if errors in ready and not self._drain():
                poll.unregister(errors)
            if wanted in ready:
                return
            if left <= 0:
                self._broken(f"did not answer within {seconds:.0f} s")

    def _drain(self) -> bool:
        """Take what is on standard error; whether there may be more."""
        assert self._process is not None
        assert self._process.stderr is not None
        try:
            text = os.read(self._process.stderr.fileno(), 64 << 10)
        except BlockingIOError:
            return True
        self._stderr = (self._stderr + text)[-_STDERR:]
        return bool(text)

    def _broken(self, how: str) -> NoReturn:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END if how == "ended" else 0)
        self._drain()
        code = self._process.poll()
        ended = "" if code is None else f"exit code {code}"
        args = self.node.engine.exec_args(self.node.name, ["true"])
        raise ClusterError(
            f"node {self.node.name}: its shell {how}",
            cause=last_lines(self._stderr) or ended,
            remedy=f"is the node running? try `{shown(args)}`",
            slug="node-shell-broken",
        )

    def _end(self, patience: float) -> None:
        process, self._process, self._pending = self._process, None, 0
        if process is None:
            return
        try:
            assert process.stdin is not None
            process.stdin.close()
            if patience:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        finally:
            kill(process)
