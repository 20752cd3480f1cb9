"""The counters of running programs, read out of their memory from the node.

One shell per node runs reader.pl, or reader.sh where perl is missing; nothing is copied to the
node. A reading is one round trip: which processes of containers are new, whose counters changed,
which ended.
"""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.cluster.shell import Refusal, Shell
from pytest_kindcov.errors import ClusterError, CoverageDataError
from pytest_kindcov.harvest import elf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    import numpy.typing as npt

    from pytest_kindcov.cluster.node import Node

    Words = npt.NDArray[np.uint32]

# Bounds for what untrusted pods may run.
MAX_PROCESSES = 4096
_MAX_WATCHED = 256 << 20
_MAX_PROBLEMS = 100
# Programs whose files were read. A node of a test cluster has some dozens.
_MAX_PROGRAMS = 4096
# Seconds for one answer. Fifty changed regions of 126 KB take 0.05 s; the rest is for a machine
# that does other things.
_ASK = 10.0
# Seconds after a process was first seen in which its memory may not be in order yet: the dynamic
# linker relocates position-independent programs, a big one under load for some 0.1 s.
_SETTLE = 3.0
_CHUNK = 8 << 20
# Words of a block, as reader.pl has them.
_BLOCK = 64

# What varies comes as arguments. perl is tried, not looked for: its library may be missing.
_START = (
    'if perl -MFcntl -Mstrict -Mwarnings -e 1 2> /dev/null; then exec perl -e "$1" "$3"; fi;'
    ' exec bash -c "$2" kindcov "$3"'
)
_DATA = re.compile(r"(data|maybe) ([0-9]{1,10}) ([0-9]{1,10})")
_PART = re.compile(r"part ([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,10})")
_GONE = re.compile(r"gone ([0-9]{1,10})")
# PID STARTED STACK INNER CONTAINER, and of the program's file DEVICE INODE SIZE MTIME.
_NEW = re.compile(
    r"new ([0-9]{1,10}) ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,10}) ([0-9a-f]{64}|-)"
    r" ((?:-?[0-9]{1,20} ){3}-?[0-9]{1,20})"
)


@dataclass(frozen=True)
class Process:
    """One run of an instrumented program in a container."""

    node: str
    """The node's name."""
    pid: int
    """As the node numbers it."""
    inner_pid: int
    """As it numbers itself, in its innermost namespace; the one in its counter file's name."""
    started: int
    """When: hundredths of a second since the machine was booted."""
    stack: int
    """Address of its stack, another one after each exec of the same process."""
    container: str
    """Container id, 64 hexadecimal digits."""
    build_id: str
    """Go's, of its program; may be empty."""
    address: int
    """Where its counters are in its memory."""
    size: int
    """Bytes of them."""


@dataclass(frozen=True)
class Reading:
    """What a node's processes had counted at a moment."""

    started: list[Process] = field(default_factory=list)
    """Instrumented processes that are in no earlier reading."""
    changed: dict[Process, Words] = field(default_factory=dict)
    """uint32[size / 4], the whole region of each whose counters are not those of the last reading.
    Of the started ones all, zeros or not."""
    gone: list[Process] = field(default_factory=list)
    """Those that ended, or became another program. Their counters are those last read."""
    error: ClusterError | None = None
    """Why the node could not be read. The rest is empty then, and comes with a later reading."""


@dataclass(frozen=True)
class _Seen:
    """A container's process as the reader reports it."""

    pid: int
    started: int
    stack: int
    inner: int
    container: str
    program: str


@dataclass(frozen=True)
class _Place:
    """Where a program has its counters."""

    binary: elf.Binary
    at: int
    """Bytes into the section with the moduledata, to the run of addresses that says so."""
    run: tuple[int, ...]
    """These addresses, as in the file."""


@dataclass(frozen=True)
class _Part:
    """What changed of a region."""

    blocks: Words
    """Numbers of the blocks that did."""
    words: Words
    """These blocks. The region's last one may be shorter."""


class _NotYet(Exception):
    """A process' memory is not in order, or no longer that of its program."""


class NodeReader:
    """Reads the counters of the programs on one node. Not for several threads at once.

    Args:
        node: where; it needs bash, and perl or dd, stat, cat, od, mktemp and find.
        proc: where the node has its processes, for tests.
        timeout: seconds for each answer.

    Attributes:
        problems: what is left out, and why; each thing once.

    """

    def __init__(self, node: Node, *, proc: str = "/proc", timeout: float = _ASK) -> None:
        self.node = node
        self.problems: list[str] = []
        room = resources.files(__package__)
        texts = [room.joinpath(name).read_text() for name in ("reader.pl", "reader.sh")]
        self._shell = Shell(node, ["bash", "-c", _START, "kindcov", *texts, proc])
        self._proc = proc
        self._timeout = timeout
        # Of each reading that was asked for and is not here yet, how long the node waits before it.
        self._asked: list[float] = []
        self._generation = 0
        self._programs: dict[str, _Place | None] = {}
        # New processes and until when to try to watch them.
        self._new: dict[int, tuple[_Seen, float]] = {}
        self._watched: dict[int, Process] = {}
        # Watched by a shell that broke, and not yet by the one after it.
        self._before: dict[int, Process] = {}
        self._last: dict[Process, Words] = {}
        # What no reading has told yet: a reading that fails half-way loses nothing.
        self._started: list[Process] = []
        self._changed: dict[Process, Words] = {}
        self._gone: list[Process] = []

    @property
    def busy(self) -> bool:
        """Whether a reading is on the way; what else is asked then breaks that off."""
        return bool(self._asked)

    def send(self, pauses: Sequence[float] = (0,)) -> None:
        """Ask for readings, each of which `receive` fetches. Nothing else may be asked in between.

        Args:
            pauses: seconds, one for each reading, that the node lets pass before it. New processes
                are not looked for after a pause of at most 10 ms.

        Raises:
            ClusterError: the node cannot be asked, tried twice.

        """
        self._asked = list(pauses)
        requests = b"".join(_snap(pause) for pause in pauses)
        try:
            self._shell.send(requests, self._timeout)
        except ClusterError:
            self._shell.send(requests, self._timeout)

    def receive(self) -> Reading:
        """The next reading that was asked for; a shell that broke is started anew, once.

        Raises:
            ClusterError: the node cannot be read.

        """
        pause = self._asked.pop(0)
        timeout = self._timeout + pause
        try:
            try:
                self._take(self._shell.receive(timeout))
            except Refusal:
                raise
            except ClusterError:
                self._take(self._shell.ask(_snap(pause), timeout))
        except BaseException:
            # What was taken in may be half of it: a new shell sends everything again.
            self._shell.close()
            raise
        reading = Reading(self._started, self._changed, self._gone)
        self._started, self._changed, self._gone = [], {}, []
        return reading

    def files(self, directory: str, beginning: str = "") -> dict[str, int]:
        """Regular files in a directory of the node: name to size in bytes, at most 20,000.

        Only those whose names begin so; lower-case letters and dots.

        Empty when there is no such directory. Names that are not UTF-8 keep their bytes as
        surrogates.
        """
        found = {}
        answer = self._shell.ask(
            b"list %s %s\n" % (beginning.encode(), _path(directory)), self._timeout
        )
        for line in answer.decode(errors="surrogateescape").split("\n")[:-1]:
            size, _, name = line.partition(" ")
            if not size.isdecimal():
                self._nonsense(line)
            found[name] = int(size)
        return found

    def read_file(self, path: str, limit: int) -> bytes:
        """The content of a regular file of the node; no symbolic link is followed.

        Args:
            path: of the file, absolute.
            limit: bytes; a larger file is an error.

        Raises:
            ClusterError: it is not there, is no regular file, or is too large.

        """
        parts: list[bytes] = []
        total = 0
        while True:
            size = min(_CHUNK, limit + 1 - total)
            part = self._read(path, total, size)
            parts.append(part)
            total += len(part)
            if total > limit:
                raise ClusterError(
                    f"node {self.node.name}: {path} is too large",
                    cause=f"it has more than {limit} bytes",
                    slug="node-file-too-large",
                )
            if len(part) < size:
                return b"".join(parts)

    def close(self) -> None:
        """End the shell; nothing of it stays on the node."""
        self._shell.close()

    def _take(self, answer: bytes) -> None:
        """Take in what a `snap` answered, and watch what is new."""
        if self._shell.generation != self._generation:
            # A new shell watches nothing, and reports every process of a container as new.
            self._generation = self._shell.generation
            self._before |= self._watched
            self._watched, self._new = {}, {}
        until = time.monotonic() + _SETTLE
        for pid, content in self._parse(answer):
            process = self._watched.get(pid)
            if isinstance(content, _Seen):
                self._new[pid] = content, until
            elif process is not None:
                if isinstance(content, _Part):
                    self._changed[process] = self._last[process] = self._joined(process, content)
                elif content is None:
                    self._ended(process)
                else:
                    self._note(process, content)
        # While another reading is on the way, nothing can be asked of what is new.
        for seen, late in [] if self.busy else list(self._new.values()):
            again = self._admit(seen, final=time.monotonic() > late)
            if again is None:
                del self._new[seen.pid]
            else:
                self._new[seen.pid] = again, late if again == seen else until
        for process in list(self._before.values()):
            if process.pid not in self._new:
                self._ended(self._before.pop(process.pid))

    def _parse(self, answer: bytes) -> Iterator[tuple[int, _Seen | Words | _Part | None]]:
        """By process id: a new process, counters of a watched one, or None when it is gone."""
        end = 0 if answer.startswith(b"\n") else answer.find(b"\n\n") + 1
        if not end and not answer.startswith(b"\n"):
            self._nonsense(repr(answer[:80]))
        at = end + 1
        for line in answer[:end].decode("ascii", errors="replace").splitlines():
            if match := _PART.fullmatch(line):
                pid, count, size = (int(part) for part in match.groups())
                whole = count == -(-size // (4 * _BLOCK))
                if size % 4 or not whole or at + 4 * count + size > len(answer):
                    self._nonsense(line)
                blocks = np.frombuffer(answer, "<u4", count, at)
                at += 4 * count
                yield pid, _Part(blocks, np.frombuffer(answer, "<u4", size // 4, at))
                at += size
            elif match := _NEW.fullmatch(line):
                pid, started, stack, inner = (int(match[part]) for part in range(1, 5))
                yield pid, _Seen(pid, started, stack, inner, match[5], match[6])
            elif match := _DATA.fullmatch(line):
                size = int(match[3])
                if size % 4 or at + size > len(answer):
                    self._nonsense(line)
                if match[1] == "data" or answer[at + size : at + size + 1] == b"=":
                    words = np.frombuffer(answer, "<u4", size // 4, at)
                    yield int(match[2]), words.astype(np.uint32)
                at += size + (match[1] == "maybe")
            elif match := _GONE.fullmatch(line):
                yield int(match[1]), None
            else:
                self._nonsense(line)
        if at != len(answer):
            self._nonsense(f"{len(answer) - at} bytes too many")

    def _note(self, process: Process, words: Words) -> None:
        if words.nbytes != process.size:
            self._nonsense(f"{words.nbytes} bytes of {process}")
        last = self._last.get(process)
        if last is None or not np.array_equal(words, last):
            self._changed[process] = self._last[process] = words

    def _joined(self, process: Process, part: _Part) -> Words:
        """The counters of a process after these changes."""
        words = self._last[process].copy()
        at = (part.blocks[:, None].astype(np.int64) * _BLOCK + np.arange(_BLOCK)).ravel()
        at = at[: len(part.words)]  # the last block may be shorter
        if (at >= len(words)).any():
            self._nonsense(f"a change beyond the region of {process}")
        words[at] = part.words
        return words

    def _ended(self, process: Process) -> None:
        self._gone.append(process)
        self._last.pop(process, None)
        if self._watched.get(process.pid) == process:
            del self._watched[process.pid]

    def _admit(self, seen: _Seen, *, final: bool) -> _Seen | None:
        """Watch a new process if it is instrumented.

        Args:
            seen: the process.
            final: it is given no more time to get its memory in order.

        Returns:
            What is to be looked at again: itself while its memory is not in order, what it is now
            when it was met in the middle of an exec; None when it is decided, or gone.

        """
        try:
            if seen.program not in self._programs:
                self._learn(seen)
            place = self._programs[seen.program]
            if place is not None:
                self._watch(seen, place)
        except (Refusal, _NotYet) as error:
            now = self._identify(seen.pid)
            if now != seen or not final:
                return now
            why = error.what if isinstance(error, Refusal) else str(error)
            if why:
                self._problem(f"{_named(seen)} is not covered: {why}")
            else:
                self._remember(seen.program, None)  # of a Go before 1.20
        return None

    def _learn(self, seen: _Seen) -> None:
        """Find out where a program has its counters, from its file and one process' memory.

        Raises:
            _NotYet: the memory does not hold the file's addresses.
            Refusal: the process went, or cannot be read.

        """
        path = f"{self._proc}/{seen.pid}"
        place, problem = None, ""
        try:
            binary = elf.read(lambda offset, length: self._read(f"{path}/exe", offset, length))
            if binary is not None:
                bias = self._bias(binary, seen.pid)
                address, size = binary.module
                module = self._read(f"{path}/mem", address + bias, size)
                region = elf.find_region(module, binary.noptrbss + bias)
                if region is None:
                    raise _NotYet
                if region.start != region.end:
                    run = module[region.at : region.at + elf.RUN * 8]
                    words = [word - bias for (word,) in struct.iter_unpack("<Q", run)]
                    place = _Place(binary, region.at, tuple(words))
        except CoverageDataError as error:
            problem = str(error)
        # It could have become another program while it was read.
        if self._identify(seen.pid) != seen:
            raise _NotYet
        if problem:
            self._problem(f"{_named(seen)} is not covered: {problem}")
        self._remember(seen.program, place)

    def _watch(self, seen: _Seen, place: _Place) -> None:
        """Have the counters read from now on, and take their first values.

        Memory at a wrong address may be zeros without an error. So the reader first compares the
        addresses that the moduledata gives with those expected there.
        """
        bias = self._bias(place.binary, seen.pid)
        run = [(word + bias) % (1 << 64) for word in place.run]
        start, size = run[2], place.run[3] - place.run[2]
        total = sum(process.size for process in self._watched.values())
        if len(self._watched) >= MAX_PROCESSES or total + size > _MAX_WATCHED:
            self._problem(f"{_named(seen)} is not covered: more processes than is plausible")
            return
        at = place.binary.module[0] + place.at + bias
        known = struct.pack("<5Q", *run).hex()
        request = f"watch {seen.pid} {start} {size} {at} {known}\n"
        now: _Seen | None = None
        for _, content in self._parse(self._shell.ask(request.encode(), self._timeout)):
            if isinstance(content, _Seen):
                now = content
            elif isinstance(content, np.ndarray) and now is not None:
                process = Process(
                    self.node.name,
                    now.pid,
                    now.inner,
                    now.started,
                    now.stack,
                    now.container,
                    place.binary.build_id,
                    start,
                    size,
                )
                self._watched[now.pid] = process
                if self._before.get(now.pid) == process:
                    del self._before[now.pid]
                else:
                    self._started.append(process)
                self._note(process, content)

    def _bias(self, binary: elf.Binary, pid: int) -> int:
        """How far from its file's addresses a process has a program.

        Raises:
            _NotYet: the kernel does not say it, as in the middle of an exec.

        """
        try:
            return elf.bias(binary, self._read(f"{self._proc}/{pid}/auxv", 0, 4096))
        except CoverageDataError as error:
            raise _NotYet(error.what) from error

    def _identify(self, pid: int) -> _Seen | None:
        """What a process is now; None when it is gone."""
        try:
            answer = self._shell.ask(f"identify {pid}\n".encode(), self._timeout)
        except Refusal:
            return None
        found = [content for _, content in self._parse(answer) if isinstance(content, _Seen)]
        return found[0] if found else None

    def _read(self, path: str, offset: int, length: int) -> bytes:
        """At most that many bytes of a file; fewer at its end."""
        if offset < 0 or offset + length >= 1 << 48:  # as no file has, nor a process
            raise CoverageDataError("it has impossible addresses")
        parts = []
        while length > 0:
            size = min(length, _CHUNK)
            request = b"read %d %d %s\n" % (offset, size, _path(path))
            part = self._shell.ask(request, self._timeout)
            parts.append(part[:size])
            if len(part) < size:
                break
            offset, length = offset + size, length - size
        return b"".join(parts)

    def _remember(self, program: str, place: _Place | None) -> None:
        if len(self._programs) >= _MAX_PROGRAMS:
            self._programs.clear()
        self._programs[program] = place

    def _problem(self, text: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)

    def _nonsense(self, what: str) -> NoReturn:
        self._shell.close()
        raise ClusterError(
            f"node {self.node.name}: its reader's answer is not understood",
            cause=what[:200],
            slug="node-shell-broken",
        )


def readings(
    readers: Sequence[NodeReader], pauses: Sequence[float] = (0,)
) -> Iterator[list[Reading]]:
    """Readings of each node, all asked at the same time.

    A node that cannot be read has its `error` in its reading: the others' readings are not lost.

    Args:
        readers: of the nodes.
        pauses: seconds, one for each reading, that the nodes let pass before it. So a second one
            after a short time costs no other way there and back.

    """
    errors: dict[NodeReader, ClusterError] = {}
    for reader in readers:
        try:
            reader.send(pauses)
        except ClusterError as error:
            errors[reader] = error
    for _ in pauses:
        found = []
        for reader in readers:
            try:
                if reader in errors:
                    raise errors[reader]
                found.append(reader.receive())
            except ClusterError as error:
                found.append(Reading(error=error))
        yield found


def _snap(pause: float) -> bytes:
    """The request for a reading, so many seconds later."""
    return b"snap %d\n" % round(1e6 * pause)


def _named(seen: _Seen) -> str:
    return f"the program of process {seen.pid} in container {seen.container[:12]}"


def _path(path: str) -> bytes:
    """A path as it stands in a request."""
    if not path.startswith("/") or "\n" in path:
        raise ClusterError(f"{path!r} is no path on a node", slug="node-path-invalid")
    return path.encode(errors="surrogateescape")
