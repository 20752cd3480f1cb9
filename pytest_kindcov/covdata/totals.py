"""The counters of many files of one program, added up at once.

What a run leaves behind is hundreds of small files. They are decoded together, a batch at a time,
and their records followed in step: the work for a record is then a vector operation over all files,
not a Python statement. See bench/covdata.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import counters, uleb
from pytest_kindcov.covdata.records import Layout, walk, walk_all
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Meta

    Words = npt.NDArray[np.uint32]
    Index = npt.NDArray[np.int64]

# Bytes of files that are held and followed together: the more files walk in step, the less a step
# costs for each. Twice as many are not faster, and take 50 MB more.
_BATCH = 8 << 20
# Bytes that are decoded, and numbers that are added at once: their temporaries stay in the cache,
# and are small enough to be taken from memory that was used before. Eight times as many cost 10 %.
_CHUNK = 1 << 18
# From so many files on, walking in step is faster than one by one: 2 us a step, where else it is
# 0.07 us a record and 0.1 ms a file.
_IN_STEP = 20


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
        files: how many were added.
        bad: by file name, why it was left out.

    """

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self.files = 0
        self.bad: dict[str, str] = {}
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
        """Add up what is held back; `bad` and `files` are complete then."""
        batch = sorted(self._batch, key=lambda file: -file.records)
        self._batch, self._held = [], 0
        if not batch:
            return
        numbers, edges = _decode(batch)
        parts = _in_step(batch, numbers, edges, self._layout) if len(batch) >= _IN_STEP else None
        if parts is None:
            self._one_by_one(batch, numbers, edges)
            return
        for part in parts:
            self._layout.add(self._row, *part)
        self.files += len(batch)

    def counters(self) -> Counters:
        """All that was added so far: uint32[U], as `model.merge` of all files."""
        self.finish()
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
            self.finish()

    def _one_by_one(self, files: list[_File], numbers: Words, edges: Index) -> None:
        """Add few files, or find which of them is damaged."""
        layout = self._layout
        for file, first, last in zip(files, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            words = numbers[first:last]
            try:
                place, end = walk(words, 0, file.records)
                if end != len(words):
                    raise CoverageDataError("truncated: its records end elsewhere")
                layout.add(self._row, words, place, layout.functions_at(words, place))
                self.files += 1
            except CoverageDataError as error:
                self.bad[file.name] = error.what


def _in_step(
    files: list[_File], numbers: Words, edges: Index, layout: Layout
) -> list[tuple[Words, Index, Index]] | None:
    """All records as `Layout.add` takes them, some at a time; None if a file is damaged."""
    place = walk_all(numbers, edges, np.array([file.records for file in files], np.int64))
    if place is None:
        return None
    parting = np.searchsorted(place, np.arange(0, len(numbers), _CHUNK))
    parting = np.unique(np.append(parting, len(place))).tolist()
    parts = []
    for first, last in itertools.pairwise(parting):
        begin = int(place[first])
        end = int(place[last]) if last < len(place) else len(numbers)
        words, here = numbers[begin:end], place[first:last] - begin
        try:
            parts.append((words, here, layout.functions_at(words, here)))
        except CoverageDataError:
            return None
    return parts


def _decode(files: list[_File]) -> tuple[Words, Index]:
    """All numbers of files, uint32[N], and where those of each begin and end, int64[K+1]."""
    sizes: list[Index] = [np.zeros(1, np.int64)]
    # Each takes a byte at least. What is not used of it takes no memory.
    numbers = np.empty(sum(len(file.payload) for file in files), np.uint32)
    first = used = 0
    while first < len(files):
        last, size = first, 0
        while last < len(files) and (last == first or size < _CHUNK):
            size += len(files[last].payload)
            last += 1
        payloads = [file.payload for file in files[first:last]]
        view = np.frombuffer(b"".join(payloads), np.uint8)
        ends = np.cumsum([len(payload) for payload in payloads])
        edges = uleb.decode(view, ends, numbers[used:])
        sizes.append(np.diff(edges, prepend=0))
        used += int(edges[-1])
        first = last
    return numbers[:used], np.cumsum(np.concatenate(sizes))
