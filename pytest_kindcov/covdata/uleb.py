"""Unsigned LEB128 numbers and string tables: the two primitives of Go's coverage files.

A number is a run of bytes: seven bits each, the low ones first, the high bit set on all but the
last. A string table is a count, then for each string its length and its bytes. Formats: Go's
src/internal/coverage/uleb128 and .../stringtab, unchanged from Go 1.21 to 1.27.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Words = npt.NDArray[np.uint32]
    Index = npt.NDArray[np.int64]

# A u64 takes ten bytes at most; Go's readers have no limit, its writers keep this one.
LONGEST = 10


def read(data: bytes, at: int) -> tuple[int, int]:
    """One number, and where the next byte stands.

    Raises:
        CoverageDataError: the data end within it, or it is longer than a u64.

    """
    value = shift = 0
    for byte in data[at : at + LONGEST]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise CoverageDataError("a number has no end")


def write(value: int) -> bytes:
    """One number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_strings(data: bytes, at: int, end: int) -> tuple[list[str], int]:
    """A string table, and where the next byte stands.

    Bytes that are not UTF-8 are kept (`surrogateescape`), so that a table can be written again.

    Raises:
        CoverageDataError: it does not fit between `at` and `end`, or says so.

    """
    count, at = read(data, at)
    if count > end - at:  # each takes a byte at least: refuses 10^9 strings before the first
        raise CoverageDataError(f"a string table of {count} strings does not fit")
    strings: list[str] = []
    add = strings.append
    try:
        for _ in range(count):
            size = data[at]
            at += 1
            if size > 0x7F:
                size, at = read(data, at - 1)
            if size > end - at:
                raise CoverageDataError(f"a string of {size} bytes does not fit")
            add(data[at : at + size].decode("utf-8", "surrogateescape"))
            at += size
    except IndexError:
        raise CoverageDataError("a string table has no end") from None
    if at > end:
        raise CoverageDataError("a string table has no end")
    return strings, at


def write_strings(strings: Iterable[str]) -> bytes:
    """A string table."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in strings]
    return write(len(encoded)) + b"".join(write(len(text)) + text for text in encoded)


def ends(data: Bytes) -> Index:
    """Where numbers end: positions of all bytes without the high bit, int64, ascending."""
    return np.flatnonzero(data < 0x80)


def values(data: Bytes, start: Index, end: Index) -> Words:
    """The numbers that stand at `start[i]` to `end[i]` (both inclusive), modulo 2^32, as Go has it.

    Args:
        data: uint8[N].
        start: int64[K], first byte of each number.
        end: int64[K], its last byte.

    Returns:
        uint32[K].

    """
    out = data[end].astype(np.uint32)
    # 99 % of the numbers are one byte, so the longer ones are worked on alone.
    long = np.flatnonzero(end != start)
    if long.size:
        first, last = start[long], end[long]
        value = (data[first] & 0x7F).astype(np.uint32)
        for step in range(1, 5):
            more = first + step <= last
            if not more.any():
                break
            byte = data[np.minimum(first + step, last)] & 0x7F
            value |= np.where(more, byte.astype(np.uint32) << np.uint32(7 * step), np.uint32(0))
        out[long] = value
    return out


def decode(data: Bytes, edges: Index, out: Words) -> Index:
    """All numbers that stand one behind the other.

    Args:
        data: uint8[N]; the last byte ends a number.
        edges: int64[E], positions at which numbers begin, or N.
        out: uint32, at least as long as there are numbers; they are put here, modulo 2^32.

    Returns:
        int64[E], how many numbers are before each edge.

    """
    more = data > 0x7F
    last = data[~more]
    out[: len(last)] = last
    # Of what the runtime writes one byte in ten goes on: only those are looked at one by one. As
    # many numbers end before a byte as there are bytes before it that end one.
    goes = np.flatnonzero(more)
    place = goes - np.arange(len(goes))
    low = data[goes] & 0x7F
    far = place[5:] == place[:-5]  # of 2^35 and more nothing is left
    if far.any():
        out[place[5:][far]] = 0
        keep = np.concatenate([np.ones(5, bool), ~far])
        place, low = place[keep], low[keep]
    while len(place):  # from the last byte of each number to its first: five times at most
        out[place] = out[place] << np.uint32(7) | low  # of one number's bytes the last one counts
        again = np.flatnonzero(place[1:] == place[:-1])
        place, low = place[again], low[again]
    return edges - np.searchsorted(goes, edges)


def sizes(numbers: Words) -> Index:
    """How many bytes each number takes: int64[K]."""
    size = np.ones(numbers.shape, dtype=np.int64)
    for bits in (7, 14, 21, 28):
        size += numbers >= np.uint32(1 << bits)
    return size


def encode(numbers: Words) -> bytes:
    """All numbers of an array, one after the other.

    Args:
        numbers: uint32[K].

    """
    if not numbers.size:
        return b""
    size = sizes(numbers)
    start = np.cumsum(size) - size
    out = np.empty(int(size.sum()), dtype=np.uint8)
    for step in range(int(size.max())):
        has = np.flatnonzero(size > step)
        byte = (numbers[has] >> np.uint32(7 * step)).astype(np.uint8) & 0x7F
        out[start[has] + step] = byte | np.where(size[has] > step + 1, 0x80, 0).astype(np.uint8)
    return out.tobytes()
