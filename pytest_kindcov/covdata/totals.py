"""The counters of many files of one program, added up at once.

What a run leaves behind is hundreds of small files. They are decoded together, a batch at a time,
and their records followed in step: the work for a record is then a vector operation over all files,
not a Python statement. Measured with 1,001 files (18 MB) of one program: see bench/covdata.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import counters, uleb
from pytest_kindcov.covdata.records import Layout, walk, walk_all
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Meta

    Words = npt.NDArray[np.uint32]
    Index = npt.NDArray[np.int64]
    Row = npt.NDArray[np.uint64]

# Bytes of files that are held and followed together: a number of them takes four bytes, and the
# more files walk in step, the less a step costs for each.
_BATCH = 16 << 20
# Bytes that are decoded or added at once: their temporaries stay in the cache.
_CHUNK = 1 << 20
# From so many files on, walking in step is faster than one by one (7 us a step, 0.1 us a record).
_IN_STEP = 64


@dataclass
class _File:
    """A file with one segment of ULEB records, its head read."""

    name: str
    data: bytes
    body: int
    records: int

    @property
    def payload(self) -> memoryview:
        """The records."""
        return memoryview(self.data)[self.body : -counters.FOOTER_SIZE]


class Total:
    """The sum of counter files of one program.

    Args:
        meta: the program.

    Attributes:
        bad: by file name, why it was left out.
        files: how many were added.

    """

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self.bad: dict[str, str] = {}
        self.files = 0
        self._layout = Layout(meta)
        self._row = self._layout.row()
        self._batch: list[_File] = []
        self._held = 0

    def add(self, name: str, data: bytes) -> None:
        """Add a file; a damaged one is noted in `bad` and adds nothing.

        Args:
            name: how to call it.
            data: all its bytes.

        """
        try:
            head = counters.header(data)
            if head.hash != self.meta.hash:
                raise CoverageDataError("counters of another program")
            if head.flavor == counters.ULEB and head.segments == 1:
                self._hold(name, data)
            else:
                segments = counters.read(data, self.meta, self._layout)
                for segment in segments:
                    self._row[self._layout.units] += segment.counters
                self.files += 1
        except CoverageDataError as error:
            self.bad[name] = error.what

    def finish(self) -> None:
        """Work on what is held back; `bad` and `files` are complete then."""
        self._flush()

    def counters(self) -> Counters:
        """All that was added so far: uint32[U], as `model.merge` of all files."""
        self._flush()
        return self._layout.counters(self._row)

    def _hold(self, name: str, data: bytes) -> None:
        records, _, body = counters.preamble(data, counters.HEADER_SIZE, self.meta.functions)
        end = len(data) - counters.FOOTER_SIZE
        # Numbers must not run from one file into the next when they are decoded together.
        if data[end - 1] > 0x7F or (body == end and records):
            raise CoverageDataError("truncated: its records have no end")
        self._batch.append(_File(name, data, body, records))
        self._held += len(data)
        if self._held >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        batch = sorted(self._batch, key=lambda file: -file.records)
        self._batch, self._held = [], 0
        if not batch:
            return
        chunks = [_decode(files) for files in _chunks(batch)]
        numbers = np.concatenate([words for words, _ in chunks])
        edges = np.concatenate([[0], np.cumsum(np.concatenate([sizes for _, sizes in chunks]))])
        records = np.array([file.records for file in batch], np.int64)
        if len(batch) >= _IN_STEP:
            found, end = walk_all(numbers, edges[:-1], records)
        for number, file in enumerate(batch):
            words = numbers[edges[number] : edges[number + 1]]
            try:
                if len(batch) < _IN_STEP:
                    place, behind = walk(words, 0, file.records)
                else:
                    place = found[: file.records, number] - edges[number]
                    behind = int(end[number] - edges[number])
                if behind != len(words):
                    raise CoverageDataError("truncated: its records end elsewhere")
                whose = self._layout.functions_at(words, place)
            except CoverageDataError as error:
                self.bad[file.name] = error.what
                continue
            self._layout.add(self._row, words, place, whose)
            self.files += 1


def _chunks(files: list[_File]) -> Iterable[list[_File]]:
    chunk: list[_File] = []
    size = 0
    for file in files:
        chunk.append(file)
        size += len(file.data)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decode(files: list[_File]) -> tuple[Words, Index]:
    """All numbers of some files, uint32[N], and how many of them each file has, int64[K]."""
    data = b"".join([file.payload for file in files])
    view = np.frombuffer(data, np.uint8)
    sizes = np.array([len(file.payload) for file in files], np.int64)
    edges = np.cumsum(sizes)
    stop = uleb.ends(view)
    start = np.empty_like(stop)
    start[:1] = 0
    start[1:] = stop[:-1] + 1
    return uleb.values(view, start, stop), np.diff(np.searchsorted(stop, edges), prepend=0)
