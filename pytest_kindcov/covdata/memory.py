"""The counters of a running process, from a copy of its memory.

Between the symbols `runtime.covctrs` and `runtime.ecovctrs` a `-cover` program has one array of
uint32: a place for the record of each function, zeros until the function runs. Where a function's
place is, is the same in all processes of one build, so a place that was found once is not looked
for again. Format: Go's src/internal/coverage/defs.go and cfile, Go 1.21 to 1.27.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.model import Mode
from pytest_kindcov.covdata.records import HEAD, Layout
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Meta

    Words = npt.NDArray[np.uint32]

# From here on a package word is a runtime package's fixed id (Go's pkid.go): not in the meta data
# by that number. Only with runtime packages in -coverpkg.
_RUNTIME = 1 << 31


class Region:
    """Where the functions of one build have their records in memory.

    Args:
        meta: the build.

    """

    def __init__(self, meta: Meta) -> None:
        self.meta = meta
        self._layout = Layout(meta)
        self._size = -1
        # Of the region, the words that belong to a known place; of the counters, theirs.
        self._known = np.zeros(0, bool)
        self._from = np.zeros(0, np.int64)
        self._to = np.zeros(0, np.int64)

    def counters(self, words: Words) -> Counters:
        """The counters in a copy of the region: uint32[U], zeros for what did not run.

        Args:
            words: uint32[N], all of the region in the byte order of this machine.

        Raises:
            CoverageDataError: this is not the region of this build.

        """
        if len(words) != self._size:
            if self._size >= 0:
                raise CoverageDataError(f"{len(words)} words, but the region has {self._size}")
            self._known = np.zeros(len(words), bool)
            self._size = len(words)
        new = np.flatnonzero((words != 0) & ~self._known)
        if new.size:
            self._learn(words, new)
        out = self.meta.zeros()
        out[self._to] = words[self._from]
        return np.minimum(out, np.uint32(1)) if self.meta.mode is Mode.SET else out

    def _learn(self, words: Words, new: npt.NDArray[np.int64]) -> None:
        """Follow the records that begin at words that were zero before."""
        found: list[int] = []
        positions = new.tolist()
        head = memoryview(words.data)
        step = 0
        while step < len(positions):
            at = positions[step]
            behind = at + HEAD + head[at]
            if behind > len(words):
                raise CoverageDataError("not the counters of this program: a record has no end")
            # The head is written word by word: without its package it is not whole yet.
            if head[at + 1] and head[at + 1] < _RUNTIME:
                found.append(at)
            step = bisect_left(positions, behind, step + 1)
        place = np.array(found, np.int64)
        if not place.size:
            return
        package = words[place + 1].astype(np.int64) - 1
        whose, good = self._layout.match(words[place], package, words[place + 2])
        if not good.all():
            raise CoverageDataError("not the counters of this program: no such function")
        sizes = self._layout.width[whose] - HEAD
        step_in = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        source = np.repeat(place + HEAD, sizes) + step_in
        self._from = np.concatenate([self._from, source])
        start = self.meta.function_units[whose].astype(np.int64)
        self._to = np.concatenate([self._to, np.repeat(start, sizes) + step_in])
        self._known[source] = True
        for word in range(HEAD):
            self._known[place + word] = True
