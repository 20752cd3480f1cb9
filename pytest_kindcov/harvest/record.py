"""The recorder: reads the counters of all running programs and books them to what is under way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import counters as counter_files
from pytest_kindcov.covdata import meta as meta_files
from pytest_kindcov.covdata.memory import Region
from pytest_kindcov.covdata.model import covered, merge, subtract
from pytest_kindcov.errors import CoverageDataError, KindCovError
from pytest_kindcov.harvest import files
from pytest_kindcov.harvest.attribute import BACKGROUND, SHUTDOWN, STARTUP, Account, contexts
from pytest_kindcov.harvest.inject import BASE
from pytest_kindcov.harvest.live import NodeReader, Process, Reading, readings
from pytest_kindcov.harvest.running import Ran
from pytest_kindcov.harvest.verdict import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.covdata.model import Bools, Counters, Meta
    from pytest_kindcov.harvest.attribute import Sighted, Units
    from pytest_kindcov.harvest.background import Probe
    from pytest_kindcov.harvest.files import Container
    from pytest_kindcov.harvest.running import Running

# Seconds between readings while a process is young, and for how long it is that. Its first probe
# comes within a second and must be told from its start, or it is unknown when it comes again.
_EARLY = 0.02
_YOUNG = 3.0
# Seconds for which services that were found quiet are taken to be so still: one test ends and the
# next begins without two more readings.
_FRESH = 0.002
# Seconds that the node lets pass between two readings that are asked for together, at most: nobody
# else can read meanwhile.
_TOGETHER = 0.01
# An untrusted pod can write any number of files with the names of meta data.
_MAX_META = 16


@dataclass(eq=False)
class Live:
    """A process that is, or was, read.

    Args:
        process: where it runs.
        container: what it runs in; the files stay empty.
        last: uint32[U], its counters when they were last read.
        seen: seconds since 1970, of the last reading.
        read: seconds (monotonic), of the same.
        since: seconds (monotonic), when it was first seen.
        ended: whether it is gone.
        stopping: whether it still ran when the services were stopped.
        ran: names of what was under way when it was noticed to be gone.
        look: seconds (monotonic), when its meta data are looked for again: later and later, for a
            look costs 10 ms, and those of a process that cannot write them never come.

    """

    process: Process
    container: Container
    since: float
    seen: float = 0.0
    read: float = 0.0
    ended: bool = False
    stopping: bool = False
    ran: tuple[str, ...] = ()
    look: float = 0.0
    words: npt.NDArray[np.uint32] | None = None
    region: Region | None = None
    account: Account | None = None
    last: Counters | None = None

    @property
    def meta(self) -> Meta | None:
        """The meta data of its program, as soon as they are known."""
        return self.region.meta if self.region else None


@dataclass
class Builds:
    """The programs that were met: their meta data and places in memory."""

    metas: dict[str, Meta | None] = field(default_factory=dict)
    """By file name; None for a file that cannot be read."""
    regions: dict[tuple[str, int], Region] = field(default_factory=dict)
    """By Go's build id and bytes: builds with other flags have the same meta data elsewhere."""
    ever: dict[bytes, Bools] = field(default_factory=dict)
    """bool[U] by hash, the units that any process ran."""


class Recorder:
    """Reads all nodes: before and after each context, and some times a second besides.

    All methods may be called from any thread.

    Args:
        nodes: of the cluster.
        running: what is under way.
        worker_of: namespace to the xdist worker that alone uses its services, None for all others.
        interval: seconds between two readings, 0 for none but those at contexts.

    """

    def __init__(
        self,
        nodes: Sequence[Node],
        running: Running,
        worker_of: Callable[[str], str | None],
        interval: float,
    ) -> None:
        self.problems: list[str] = []
        self.lives: dict[Process, Live] = {}
        self._running = running
        self._worker_of = worker_of
        self._interval = interval
        self._readers = [NodeReader(node) for node in nodes]
        self._reader_of = {reader.node.name: reader for reader in self._readers}
        self._builds = Builds()
        self._unseen: dict[bytes, tuple[Meta, Account]] = {}  # of processes that were never read
        self._new: dict[str, int] = {}  # statements, by context
        self._acting = False
        self._stopping = False
        self._stopped = 0.0
        self._last = time.monotonic()
        self._settled = 0.0  # when it was last found quiet
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kindcov-live", daemon=True)
        if interval:
            self._thread.start()

    def change(self, act: Callable[[], None]) -> None:
        """Book what ran so far, then change what is under way."""
        with self._lock:
            if time.monotonic() - self._settled > _FRESH:
                self.read()
            act()

    def settle(self, quiet: float, limit: float) -> bool:
        """Wait until no process did anything but its background's work for a while.

        Nothing is waited for while several workers share the processes: they are never quiet.

        Args:
            quiet: seconds for which nothing may happen.
            limit: seconds after which waiting ends.

        Returns:
            Whether it became quiet.

        """
        deadline = time.monotonic() + limit
        while len(self._running.ran().names) <= 1:
            if quiet <= _TOGETHER:
                lively = self.read(quiet)
            else:  # the others may read meanwhile
                self.read()
                time.sleep(quiet)
                lively = self.read()
            if not lively:
                self._settled = time.monotonic()
                return True
            if time.monotonic() > deadline:
                break
        return False  # who ends a context, or asks what ran, reads then

    def newly(self, context: str) -> int:
        """Statements that ran for the first time in this run, in a context."""
        self.read()
        return self._new.get(context, 0)

    def read(self, again: float | None = None) -> bool:
        """Read all nodes and book what happened.

        Args:
            again: seconds; read a second time so long after that.

        Returns:
            Whether anything happened since the reading before that is not known to be background.

        """
        lively = False
        with self._lock:
            if self._closed.is_set():
                return False
            try:
                for found in readings(self._readers, (0,) if again is None else (0, again)):
                    lively = self._take(found)
            except Exception as error:  # a test must not fail because it could not be watched
                self._note(f"not read live: unexpected {type(error).__name__}: {error}")
                return False
            return lively

    def _take(self, found: Sequence[Reading]) -> bool:
        """Book a reading of each node."""
        now = time.monotonic()
        unread = set()
        for reader, reading in zip(self._readers, found, strict=True):
            if reading.error is not None:
                unread.add(reader.node.name)
                self._note(f"not read live for a while: {reading.error.headline}")
            for process in reading.started:
                self._start(process, now)
            for process, words in reading.changed.items():
                self.lives[process].words = words
            for process in reading.gone:
                live = self.lives[process]
                live.ended = True
                live.ran = self._ran(live).names
        wall = time.time()
        lively = False
        for live in self.lives.values():
            lively = self._book(live, now) or lively
            if not live.ended and live.process.node not in unread:
                live.seen, live.read = wall, now
        self._last = now
        return lively

    def met(self) -> set[str]:
        """The containers, by id, of which any process was read until now."""
        with self._lock:
            return {process.container for process in self.lives}

    def stopping(self) -> None:
        """Read for the last time before the services are stopped."""
        with self._lock:
            self._stopped = time.monotonic()
            self.read()
            self._stopping = True
            for live in self.lives.values():
                live.stopping = not live.ended

    def close(self) -> None:
        """Read for the last time and end."""
        with self._lock:
            if self._closed.is_set():
                return
            self.read()
            self._closed.set()
            for reader in self._readers:
                self.problems += reader.problems
                reader.close()
        if self._interval:
            self._thread.join(timeout=10)

    def containers(self, node: str) -> list[Container]:
        """The containers of a node that were read, without files."""
        found = {live.container.id: live.container for live in self.lives.values()}
        return [container for container in found.values() if container.node == node]

    def seen(self, containers: Sequence[Container]) -> dict[str, Seen]:
        """When processes that left no exit file were last read, by container id.

        Asked before `complete` adds files.
        """
        found: dict[str, Seen] = {}
        files_of = {container.id: container.files for container in containers}
        for live in self.lives.values():
            names = files_of.get(live.process.container, ())
            meta = live.meta
            if meta is not None and any(_is_of(name, meta, live.process) for name in names):
                continue
            if live.last is not None:
                # Of a node that could not be read when the stop began, the end was not seen.
                beyond = live.read - self._stopped
                after = beyond if live.stopping and beyond >= 0 else None
                last = found.get(live.process.container)
                if last is None or last.last < live.seen:
                    found[live.process.container] = Seen(live.seen, after)
        return found

    def complete(self, containers: Sequence[Container]) -> None:
        """Join what was read with the exit files, so that each process counts once.

        A process whose exit file holds less than was read of it (it was killed, it has none) gets
        a file of the difference beside it. What exit files say beyond the last reading is booked
        to the shutdown. Processes of other containers are forgotten.

        Args:
            containers: those that count, as collected; their files are added to.

        """
        by_id = {container.id: container for container in containers}
        # What started when the services were stopped (a controller's new pod) served no test.
        self.lives = {at: live for at, live in self.lives.items() if at.container in by_id}
        joined: set[tuple[str, str]] = set()  # container id and name of a file
        for live in self.lives.values():
            container = by_id[live.process.container]
            meta = live.meta
            if meta is None or live.last is None or live.account is None:
                continue
            own = [name for name in container.files if _is_of(name, meta, live.process)]
            joined |= {(container.id, name) for name in own}
            filed = merge(
                meta.mode,
                [meta.zeros(), *(v for name in own for v in _vectors(container.files[name], meta))],
            )
            if own:
                beyond = np.where(filed > live.last, filed - live.last, np.uint32(0))
                alone = STARTUP if live.account.starting else SHUTDOWN
                live.account.add(live.ran or (alone,), beyond)
            missing = np.where(live.last > filed, live.last - filed, np.uint32(0))
            if missing.any():
                stamp = int(live.seen * 1e9)
                name = counter_files.file_name(meta.hash, live.process.inner_pid, stamp)
                joined.add((container.id, name))
                container.files[name] = counter_files.write(meta, [counter_files.Segment(missing)])
                container.files.setdefault(f"covmeta.{meta.hash.hex()}", meta_files.write(meta))
        for container in containers:
            for name, data in container.files.items():
                if files.COUNTERS.fullmatch(name) and (container.id, name) not in joined:
                    self._book_unseen(container, name, data)

    def _book_unseen(self, container: Container, name: str, data: bytes) -> None:
        """Book a process that ended before it was ever read: by the time in its file's name."""
        _, digest, _, stamp = name.split(".")
        file = f"covmeta.{digest}"
        if self._builds.metas.get(file) is None and file in container.files:
            self._builds.metas[file] = _meta(file, container.files[file])
        meta = self._builds.metas.get(file)
        if meta is None:
            return  # named when the files are merged
        worker = self._worker_of(container.namespace)
        names = self._running.at(int(stamp) / 1e9, worker) or (STARTUP,)
        account = self._unseen.setdefault(meta.hash, (meta, Account(meta.hash, len(meta))))[1]
        for vector in _vectors(data, meta):
            account.add(names, vector)

    def contexts(
        self,
        periods: Callable[[Container], Sequence[float]],
        probes: Callable[[bytes, Container], list[Probe]] = lambda *_: [],
    ) -> tuple[dict[bytes, Meta], dict[str, dict[bytes, Units]]]:
        """Who ran what.

        Args:
            periods: seconds, of the probes of a container.
            probes: those of which is known when they came; by the hash of the program, and where.

        Returns:
            The programs by hash; and by context and hash the units that ran: int32[N], ascending.

        """
        with self._lock:
            booked = [live for live in self.lives.values() if live.account is not None]
            metas = {live.meta.hash: live.meta for live in booked if live.meta is not None}
            metas |= {build: meta for build, (meta, _) in self._unseen.items()}
            for live in booked:
                if live.account is not None:
                    live.account.background.probes = probes(live.account.build, live.container)
            accounts: list[tuple[Account, Sequence[float]]] = [
                (live.account, periods(live.container)) for live in booked if live.account
            ]
            accounts += [(account, ()) for _, account in self._unseen.values()]
            return metas, contexts(accounts)

    def reads(self, namespace: str, name: str) -> bool:
        """Whether a process of such a container is read now."""
        with self._lock:
            return any(
                not live.ended
                and (live.container.namespace, live.container.name) == (namespace, name)
                for live in self.lives.values()
            )

    def background(self, act: Callable[[], object]) -> dict[bytes, Sighted]:
        """Do something in the background's stead.

        Returns:
            By hash of the program, what it ran; without programs that did nothing.

        """
        with self._lock:
            self.read()
            self._acting = True
            try:
                act()
                self.read()
            finally:
                self._acting = False
            found: dict[bytes, Sighted] = {}
            for live in self.lives.values():
                sighted = live.account.acted() if live.account else None
                if live.account and sighted is not None:
                    found[live.account.build] = sighted
            return found

    def counters(
        self, wanted: Callable[[Container], bool] = lambda _: True
    ) -> list[tuple[Meta, Counters]]:
        """What the processes of these containers ran so far, by program."""
        self.read()
        with self._lock:
            by_hash: dict[bytes, tuple[Meta, list[Counters]]] = {}
            for live in self.lives.values():
                if live.meta is not None and live.last is not None and wanted(live.container):
                    by_hash.setdefault(live.meta.hash, (live.meta, []))[1].append(live.last)
            return [(meta, merge(meta.mode, vectors)) for meta, vectors in by_hash.values()]

    def _poll(self) -> None:
        while True:
            young = any(
                not live.ended and time.monotonic() - live.since < _YOUNG
                for live in list(self.lives.values())
            )
            if self._closed.wait(min(self._interval, _EARLY) if young else self._interval):
                return
            self.read()

    def _start(self, process: Process, now: float) -> None:
        container = files.Container(process.container, process.node)
        self.lives[process] = Live(process, container, now)
        try:
            state = self._reader_of[process.node].read_file(
                f"{BASE}/containers/{process.container}/state.json", 1 << 20
            )
        except KindCovError:
            return  # a container that was there before the node was told; it has no names
        files.identify(container, state)

    def _book(self, live: Live, now: float) -> bool:
        if live.ended and live.words is None:
            return False
        if live.words is not None:
            try:
                vector = self._vector(live, live.words)
            except CoverageDataError as error:
                self._note(f"{live.container.title}: cannot be read live: {error}")
                live.words = None
                return False
            if vector is None:
                return False  # its meta data are not there yet; the words are kept
            live.words = None
        else:
            vector = None
        if live.account is None:
            if live.meta is None:
                return False
            live.account = Account(live.meta.hash, len(live.meta))
        ran = self._ran(live)
        delta = self._delta(live, vector, ran.names) if vector is not None else None
        live.account.book(ran, self._last, now, delta)
        if delta is None:
            return False
        return not live.account.background.knows(np.flatnonzero(covered(delta)).astype(np.int32))

    def _ran(self, live: Live) -> Ran:
        """What is under way that a process may run for."""
        if self._stopping:
            return Ran((SHUTDOWN,), -1)
        if self._acting:
            return Ran((BACKGROUND,), -2)
        return self._running.ran(self._worker_of(live.container.namespace))

    def _delta(self, live: Live, vector: Counters, names: tuple[str, ...]) -> Counters | None:
        meta = live.meta
        assert meta is not None
        before = live.last if live.last is not None else meta.zeros()
        delta = subtract(vector, before)
        live.last = vector
        mask = covered(delta)
        if not mask.any():
            return None
        ever = self._builds.ever.setdefault(meta.hash, np.zeros(len(meta), bool))
        first = mask & ~ever
        if first.any():
            ever |= first
            for name in names:
                self._new[name] = self._new.get(name, 0) + int(meta.units[first, 4].sum())
        return delta

    def _vector(self, live: Live, words: npt.NDArray[np.uint32]) -> Counters | None:
        """The counters in a copy of the region; None while the program is not known."""
        key = live.process.build_id, live.process.size
        if live.region is None and live.process.build_id:
            live.region = self._builds.regions.get(key)
        if live.region is not None:
            return live.region.counters(words)
        now = time.monotonic()
        # Its meta data cannot be asked for while another reading is on the way.
        if self._reader_of[live.process.node].busy or (now < live.look and not self._stopping):
            return None
        live.look = now + (now - live.since)
        for meta in self._metas(live):
            region = Region(meta)
            try:
                vector = region.counters(words)
            except CoverageDataError:
                continue  # another program of the same container
            if vector.any():
                live.region = self._builds.regions[key] = region
                return vector
        return None

    def _metas(self, live: Live) -> list[Meta]:
        """The programs that wrote their meta data into a container's directory."""
        reader = self._reader_of[live.process.node]
        directory = f"{BASE}/containers/{live.process.container}/data"
        found = []
        try:
            names = reader.files(directory, "covmeta.")
            for name in sorted(filter(files.META.fullmatch, names))[:_MAX_META]:
                if self._builds.metas.get(name) is None:  # another pod may have it whole
                    data = reader.read_file(f"{directory}/{name}", files.MAX_FILE)
                    self._builds.metas[name] = _meta(name, data)
                meta = self._builds.metas[name]
                if meta is not None:
                    found.append(meta)
        except KindCovError as error:
            self._note(f"{live.container.title}: cannot be read live: {error.headline}")
        return found

    def _note(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)


def _meta(name: str, data: bytes) -> Meta | None:
    """What a meta file says; None for one that is not what its name says: pods are not trusted."""
    try:
        meta = meta_files.read(data)
    except CoverageDataError:
        return None
    return meta if name == f"covmeta.{meta.hash.hex()}" else None


def _is_of(name: str, meta: Meta, process: Process) -> bool:
    """Whether a counter file is from a process: of its program, with its number."""
    if not files.COUNTERS.fullmatch(name):
        return False
    _, digest, pid, _ = name.split(".")
    return digest == meta.hash.hex() and int(pid) == process.inner_pid


def _vectors(data: bytes, meta: Meta) -> list[Counters]:
    try:
        return [segment.counters for segment in counter_files.read(data, meta)]
    except CoverageDataError:
        return []  # named when the files are merged
