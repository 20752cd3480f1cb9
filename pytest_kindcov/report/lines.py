"""From blocks of code to lines: the one rule by which all line-based reports go.

A block with statements covers the lines from its first to its last; a last line of which it has
nothing (it ends before the first column) is not its own. A line has the hits of its block that ran
most. Go's blocks begin and end at braces: so where a block of several lines begins or ends on a
line that another block has too, it is the other that says what the line is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.report.model import Lines

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Ints

    Index = npt.NDArray[np.int64]

# Lines of a file. Generated files have some 100,000; a `//line` comment can claim any number, and
# each takes a bit for every context.
HIGHEST = 1 << 20
# Lines of all blocks together, counted for each block: 0.3 million for 100,000 blocks.
_MOST = 1 << 23


def spans(units: npt.NDArray[np.uint32]) -> tuple[Index, Index]:
    """First line, and number of lines (0 without statements), of units: int64[N] each.

    Args:
        units: uint32[N, 5], as in `covdata.model.Meta`.

    """
    first, _, last, column, statements = units.T.astype(np.int64)
    # A unit that ends before the first column of a line has nothing on it.
    last = np.clip(last - (column <= 1), first, HIGHEST)
    length = np.where((statements > 0) & (first > 0), np.maximum(last - first + 1, 0), 0)
    return first, length


def lines(
    file: Ints, files: int, units: npt.NDArray[np.uint32], counts: Counters
) -> tuple[Lines, Index]:
    """The lines of blocks.

    Args:
        file: int32[N], ascending: the file of each block.
        files: F, how many there are.
        units: uint32[N, 5].
        counts: uint32[N].

    Returns:
        The lines, and int64[F+1]: file f has those from [f] to [f+1].

    """
    first, length = spans(units)
    if length.sum() > _MOST:  # no source has that: it must only do no harm
        length = np.minimum(length, _MOST // len(length))
    ends = np.cumsum(length)
    block = np.repeat(np.arange(len(length)), length)
    step = np.arange(len(block)) - (ends - length)[block]
    # Where the block is more than a brace: not on the first and last of several lines.
    whole = (step > 0) & (step < length[block] - 1) | (length[block] == 1)
    key = file[block].astype(np.int64) * (HIGHEST + 1) + first[block] + step
    order = np.argsort(key, kind="stable")
    key, whole, hits = key[order], whole[order], counts[block][order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(starts):
        nothing = np.zeros(0, np.int32)
        return Lines(nothing, nothing.astype(np.uint32), nothing > 0), np.zeros(files + 1, np.int64)
    ran = np.logical_or.reduceat(whole & (hits > 0), starts)
    missed = np.logical_or.reduceat(whole & (hits == 0), starts)
    different = key[starts]
    found = Lines(
        (different % (HIGHEST + 1)).astype(np.int32),
        np.maximum.reduceat(hits, starts),
        ran & missed,
    )
    return found, np.searchsorted(different, np.arange(files + 1) * (HIGHEST + 1))
