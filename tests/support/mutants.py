"""Damaged coverage files, the same ones for the same seed, and what must hold for each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import counters, meta, profile
from pytest_kindcov.covdata.totals import Total
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from pytest_kindcov.covdata.model import Meta

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**9)
SLOWEST = 1.0


def mutant(data: bytes, chance: random.Random) -> bytes:
    """One to four changes: bits, numbers, cuts, repeats, moves."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(8):
            case 0:
                del out[at:]
            case 1:
                del out[at : at + chance.randint(1, 16)]
            case 2:
                out[at:at] = chance.randbytes(chance.randint(1, 16))
            case 3:
                out[at : at + 4] = chance.choice(_EDGES).to_bytes(4, "little")
            case 4:
                out[at : at + 8] = chance.choice(_EDGES).to_bytes(8, "little")
            case 5:  # the heads are where the lengths and offsets are
                at = chance.randrange(min(len(out), 200) + 1)
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 6:
                other = chance.randrange(len(out) + 1)
                out[at : at + 64] = out[other : other + 64]
            case _:
                if at < len(out):
                    out[at] ^= 1 << chance.randrange(8)
    return bytes(out)


def cuts(data: bytes) -> Iterator[bytes]:
    """Truncated at every byte."""
    return (data[:length] for length in range(len(data)))


def try_meta(data: bytes, good: bytes) -> bool:
    """Whether it was read; then it must be possible to go on with it."""
    begin = time.process_time()
    try:
        found = meta.read(data)
        assert len(found) * 5 <= len(data)
        own = profile.from_counters(found, found.zeros())
        profile.write(own)
        own.by_function()
        Total(found).add("x", good)
        return True
    except CoverageDataError:
        return False
    finally:
        assert time.process_time() - begin < SLOWEST


def try_counters(data: bytes, program: Meta) -> bool:
    """Whether it was read, the same both ways: alone and among many."""
    begin = time.process_time()
    total = Total(program)
    total.add("x", data)
    merged = total.counters()
    try:
        segments = counters.read(data, program)
        assert not total.bad, total.bad
        assert len(segments) != 1 or (merged == segments[0].counters).all() or program.mode == 1
        return True
    except CoverageDataError:
        assert set(total.bad) == {"x"}
        assert not merged.any()
        return False
    finally:
        assert time.process_time() - begin < SLOWEST


def try_profile(data: bytes) -> bool:
    """Whether it was read; then it is read again from what is written."""
    begin = time.process_time()
    try:
        found = profile.read(data)
        again = profile.read(profile.write(found))
        assert (again.counts == found.counts).all()
        assert (again.units == found.units).all()
        return True
    except CoverageDataError:
        return False
    finally:
        assert time.process_time() - begin < SLOWEST
