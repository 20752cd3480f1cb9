"""Reader and writer of `covcounters.HASH.PID.TIME`: how often a process ran each unit.

Format: Go's src/internal/coverage/defs.go, encodecounter, decodecounter; version 1, Go 1.21 to
1.27. A file holds segments (the runtime writes one; `go tool covdata` reads the first alone), and
a segment the functions that ran, each as a record: number of counters, package, function, counters.
Many files of one program are read at once by `total`; `read` gives one file with all it says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import uleb
from pytest_kindcov.covdata.records import Layout, walk
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters, Meta

    Words = npt.NDArray[np.uint32]

MAGIC = b"\0cwm"
VERSION = 1
# Each segment becomes a vector as large as the program, whatever it holds. The runtime writes one.
MAX_SEGMENTS = 256
RAW = 1
ULEB = 2
# Magic, version, hash, flavour, big-endian.
_HEADER = struct.Struct("<4sI16sBB6x")
# Functions, length of the strings, length of the arguments.
_SEGMENT = struct.Struct("<QII")
# Magic, segments.
_FOOTER = struct.Struct("<4s4xI4x")
HEADER_SIZE = _HEADER.size
FOOTER_SIZE = _FOOTER.size


@dataclass(frozen=True)
class Header:
    """What a counter file says before its first segment.

    Args:
        hash: 16 bytes, of the meta data that it belongs to.
        flavor: RAW (32 bits a number) or ULEB.
        big_endian: byte order of RAW numbers.
        segments: how many there are.

    """

    hash: bytes
    flavor: int = ULEB
    big_endian: bool = False
    segments: int = 1


@dataclass(frozen=True, eq=False)
class Segment:
    """One run of a program, or a part of it.

    Args:
        counters: uint32[U], in the order of the meta data.
        arguments: what the runtime noted: argc, argv0, ..., GOOS, GOARCH.

    """

    counters: Counters
    arguments: dict[str, str] = field(default_factory=dict)


def header(data: bytes) -> Header:
    """Check the two ends of a counter file.

    Raises:
        CoverageDataError: it is not such a file, is truncated, or of a version yet unknown.

    """
    if len(data) < HEADER_SIZE + _SEGMENT.size + FOOTER_SIZE:
        raise CoverageDataError(f"truncated: {len(data)} bytes are less than its headers")
    magic, version, digest, flavor, big_endian = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CoverageDataError("not a Go coverage counter file")
    if version > VERSION:
        raise CoverageDataError(
            f"version {version} of the format is not known",
            remedy="update pytest-kindcov, or use `go tool covdata` of the Go that wrote it",
        )
    magic, segments = _FOOTER.unpack_from(data, len(data) - FOOTER_SIZE)
    if magic != MAGIC:
        raise CoverageDataError("truncated: no footer at its end")
    if flavor not in (RAW, ULEB) or big_endian > 1 or not segments:
        raise CoverageDataError(f"flavour {flavor}, {segments} segments: not known")
    if segments > MAX_SEGMENTS:
        raise CoverageDataError(f"{segments} segments are more than {MAX_SEGMENTS}")
    return Header(digest, flavor, bool(big_endian), segments)


def preamble(data: bytes, at: int, functions: int) -> tuple[int, int, int]:
    """The head of a segment.

    Args:
        data: the file.
        at: where the segment begins.
        functions: F of the program.

    Returns:
        How many records it has, where its arguments begin, and where its first record.

    Raises:
        CoverageDataError: it does not fit, or has more records than the program functions.

    """
    if at + _SEGMENT.size > len(data) - FOOTER_SIZE:
        raise CoverageDataError("truncated: a segment is missing")
    records, strings, arguments = _SEGMENT.unpack_from(data, at)
    if records > functions:  # each function stands there once at most
        raise CoverageDataError(f"{records} functions, but the program has {functions}")
    middle = at + _SEGMENT.size + strings
    body = middle + arguments
    if at == HEADER_SIZE:
        # Padding is part of the arguments (Go's writer); Go's reader aligns once more. Behind a
        # segment of an odd size the two differ, and what was written counts.
        body += -body % 4
    if body > len(data) - FOOTER_SIZE:
        raise CoverageDataError("truncated: strings and arguments do not fit")
    if data[body - 1] > 0x7F:
        raise CoverageDataError("arguments run into the records")
    return records, middle, body


def read(data: bytes, meta: Meta, layout: Layout | None = None) -> list[Segment]:
    """All segments of a counter file.

    Args:
        data: all its bytes.
        meta: the program.
        layout: of the same program, when it is at hand.

    Raises:
        CoverageDataError: it is damaged, or not of this program.

    """
    head = header(data)
    if head.hash != meta.hash:
        raise CoverageDataError("counters of another program")
    layout = layout or Layout(meta)
    numbers = _Uleb(data) if head.flavor == ULEB else _Raw(data, head.big_endian)
    segments: list[Segment] = []
    at = HEADER_SIZE
    for _ in range(head.segments):
        records, middle, body = preamble(data, at, meta.functions)
        arguments = _arguments(data, at + _SEGMENT.size, middle, body)
        words, first = numbers.at(body)
        found, behind = walk(words, first, records)
        row = layout.row()
        layout.add(row, words[first:behind], found - first, layout.functions_at(words, found))
        segments.append(Segment(layout.counters(row), arguments))
        at = numbers.byte(body, behind - first)
        if data[at : at + 4] != MAGIC:
            raise CoverageDataError("a segment does not end where its records do")
        at += FOOTER_SIZE
    if at != len(data):
        raise CoverageDataError("bytes behind the last segment")
    return segments


def _arguments(data: bytes, at: int, middle: int, end: int) -> dict[str, str]:
    """What the runtime noted of the process: pairs of strings.

    Nothing if that is damaged: no counter depends on it.
    """
    arguments = {}
    try:
        strings, _ = uleb.read_strings(data, at, middle)
        count, at = uleb.read(data, middle)
        for _ in range(min(count, end - middle)):
            key, at = uleb.read(data, at)
            value, at = uleb.read(data, at)
            arguments[strings[key]] = strings[value]
    except (CoverageDataError, IndexError):
        return {}
    return arguments if at <= end else {}


class _Uleb:
    """The numbers of a file with ULEB records; those in its heads are decoded too, for nothing."""

    def __init__(self, data: bytes) -> None:
        view = np.frombuffer(data, np.uint8)
        self._stop = uleb.ends(view)
        start = np.concatenate([np.zeros(1, np.int64), self._stop[:-1] + 1])[: len(self._stop)]
        self._numbers = uleb.values(view, start, self._stop)

    def at(self, byte: int) -> tuple[Words, int]:
        """All numbers, and which begins at a byte."""
        return self._numbers, int(np.searchsorted(self._stop, byte))

    def byte(self, body: int, count: int) -> int:
        """Behind `count` numbers from `body` on."""
        if not count:
            return body
        return int(self._stop[np.searchsorted(self._stop, body) + count - 1]) + 1


class _Raw:
    """The numbers of a file with RAW records: 32 bits each."""

    def __init__(self, data: bytes, big_endian: bool) -> None:
        self._data = data
        self._type = ">u4" if big_endian else "<u4"
        self._cache: dict[int, Words] = {}

    def at(self, byte: int) -> tuple[Words, int]:
        """All numbers aligned as this one, and which begins at a byte."""
        shift = byte % 4
        if shift not in self._cache:
            count = (len(self._data) - shift) // 4
            words = np.frombuffer(self._data, self._type, count, shift)
            self._cache[shift] = words.astype(np.uint32)
        return self._cache[shift], byte // 4

    def byte(self, body: int, count: int) -> int:
        """Behind `count` numbers from `body` on."""
        return body + 4 * count


def write(
    meta: Meta, segments: Sequence[Segment], *, flavor: int = ULEB, big_endian: bool = False
) -> bytes:
    """A counter file; `file_name` names it.

    Functions that did not run are left out. `go tool covdata` reads the first segment alone, and
    Go itself writes only one.

    Args:
        meta: the program.
        segments: at least one.
        flavor: RAW or ULEB, which the runtime writes.
        big_endian: byte order of RAW numbers.

    Raises:
        ValueError: there is no segment.

    """
    if not segments:
        raise ValueError("a counter file has a segment")
    layout = Layout(meta)
    data = bytearray(_HEADER.pack(MAGIC, VERSION, meta.hash, flavor, big_endian))
    for number, segment in enumerate(segments, 1):
        records, numbers = layout.records(segment.counters)
        strings, arguments = _write_arguments(segment.arguments)
        body = len(data) + _SEGMENT.size + len(strings) + len(arguments)
        arguments += bytes(-body % 4)
        data += _SEGMENT.pack(records, len(strings), len(arguments)) + strings + arguments
        if flavor == ULEB:
            data += uleb.encode(numbers)
        else:
            data += numbers.astype(">u4" if big_endian else "<u4").tobytes()
        data += _FOOTER.pack(MAGIC, number)
    return bytes(data)


def _write_arguments(arguments: dict[str, str]) -> tuple[bytes, bytes]:
    strings = list(dict.fromkeys(["", *(text for pair in arguments.items() for text in pair)]))
    index = {text: number for number, text in enumerate(strings)}
    pairs = b"".join(
        uleb.write(index[key]) + uleb.write(index[value])
        for key, value in sorted(arguments.items())
    )
    return uleb.write_strings(strings), uleb.write(len(arguments)) + pairs


def file_name(digest: bytes, process: int, time: int) -> str:
    """The name of a counter file: meta hash, process, nanoseconds since 1970."""
    return f"covcounters.{digest.hex()}.{process}.{time}"
