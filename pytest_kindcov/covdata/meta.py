"""Reader and writer of `covmeta.HASH`: what a program can cover.

Format: Go's src/internal/coverage/defs.go, encodemeta, decodemeta; version 1, Go 1.21 to 1.27. All
integers are little-endian. Nothing in a file is believed before it was compared with the bytes
there are, so the work and the memory are bounded by the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import uleb
from pytest_kindcov.covdata.model import Granularity, Meta, Mode, Package
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Words = npt.NDArray[np.uint32]
    Index = npt.NDArray[np.int64]

MAGIC = b"\0cvm"
VERSION = 1
# Magic, version, length, packages, hash, offset and length of the strings, mode, granularity.
_HEADER = struct.Struct("<4sIQQ16sIIBB6x")
# Length, name, path, module (strings), hash, number of strings, functions.
_PACKAGE = struct.Struct("<IIII16s4xII")
# The numbers of a function are decoded for so many bytes at a time: temporaries take 30 bytes for
# each, and all of a file at once would take more than ten times its size.
_BATCH = 64 << 10


@dataclass
class _Blob:
    """A package's part of the file, before its functions are read."""

    end: int
    package: Package
    strings: list[str]
    functions: Index  # where each begins, from the start of the file


def read(data: bytes) -> Meta:
    """Read a `covmeta` file.

    Args:
        data: all its bytes.

    Raises:
        CoverageDataError: it is not such a file, is damaged, or of a version yet unknown.

    """
    if len(data) < _HEADER.size:
        raise CoverageDataError(f"truncated: {len(data)} bytes are less than a header")
    magic, version, length, count, digest, _, _, mode, granularity = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CoverageDataError("not a Go coverage meta-data file")
    if version > VERSION:
        raise CoverageDataError(
            f"version {version} of the format is not known",
            remedy="update pytest-kindcov, or use `go tool covdata` of the Go that wrote it",
        )
    if length != len(data):
        raise CoverageDataError(f"{len(data)} bytes, but its header says {length}")
    try:
        kind, grain = Mode(mode), Granularity(granularity)
    except ValueError as error:
        raise CoverageDataError(f"counter mode or granularity: {error}") from None
    blobs = [_blob(data, start, size) for start, size in _blobs(data, count)]
    return _meta(data, blobs, digest, kind, grain)


def _blobs(data: bytes, count: int) -> list[tuple[int, int]]:
    """Offset and length of each package."""
    if count * 16 > len(data) - _HEADER.size:
        raise CoverageDataError(f"{count} packages do not fit into {len(data)} bytes")
    table = np.frombuffer(data, "<u8", 2 * count, _HEADER.size)
    starts, sizes = table[:count], table[count:]
    if count and (starts.max() > len(data) or sizes.max() > len(data)):
        raise CoverageDataError("a package lies outside the file")
    if (starts[:-1] + sizes[:-1] > starts[1:]).any():  # they would be read again and again
        raise CoverageDataError("packages overlap")
    return list(zip(starts.tolist(), sizes.tolist(), strict=True))


def _blob(data: bytes, start: int, size: int) -> _Blob:
    if size < _PACKAGE.size or start + size > len(data):
        raise CoverageDataError("a package lies outside the file")
    length, name, path, module, digest, _, functions = _PACKAGE.unpack_from(data, start)
    if length != size:
        raise CoverageDataError("a package's length is not what the header says")
    body = start + _PACKAGE.size + 4 * functions
    if body > start + size:
        raise CoverageDataError(f"{functions} functions do not fit into a package")
    offsets = np.frombuffer(data, "<u4", functions, start + _PACKAGE.size).astype(np.int64)
    strings, body = uleb.read_strings(data, body, start + size)
    if max(name, path, module) >= len(strings):
        raise CoverageDataError("a package's name is not in its string table")
    if functions and not body <= start + int(offsets[0]) <= start + int(offsets[-1]) < start + size:
        raise CoverageDataError("a function lies outside its package")
    if (offsets[:-1] >= offsets[1:]).any():
        raise CoverageDataError("functions overlap")
    package = Package(strings[path], strings[name], strings[module], digest)
    return _Blob(start + size, package, strings, offsets + start)


def _meta(
    data: bytes, blobs: list[_Blob], digest: bytes, mode: Mode, granularity: Granularity
) -> Meta:
    strings: list[str] = []
    package_strings, package_functions = [0], [0]
    for blob in blobs:
        strings += blob.strings
        package_strings.append(len(strings))
        package_functions.append(package_functions[-1] + len(blob.functions))
    parts = list(_functions(data, blobs))
    function_units = np.zeros(package_functions[-1] + 1, np.int32)
    np.cumsum(_join([part.sizes for part in parts]), out=function_units[1:])
    # From an index into the package's string table to one into all strings.
    shift = np.repeat(package_strings[:-1], np.diff(package_functions)).astype(np.int32)
    return Meta(
        hash=digest,
        mode=mode,
        granularity=granularity,
        packages=tuple(blob.package for blob in blobs),
        package_functions=np.array(package_functions, np.int32),
        strings=strings,
        package_strings=np.array(package_strings, np.int32),
        function_units=function_units,
        function_name=_join([part.names for part in parts]) + shift,
        function_file=_join([part.files for part in parts]) + shift,
        function_literal=_join([part.literals for part in parts]) != 0,
        units=np.concatenate([np.empty((0, 5), np.uint32), *(part.units for part in parts)]),
    )


def _join(parts: list[Words]) -> npt.NDArray[np.int32]:
    return np.concatenate([np.empty(0, np.uint32), *parts]).astype(np.int32)


@dataclass
class _Functions:
    """F functions as they are in the file, and their units."""

    sizes: Words
    names: Words
    files: Words
    literals: Words
    units: Words


def _functions(data: bytes, blobs: list[_Blob]) -> Iterator[_Functions]:
    """All functions, some at a time; they stand in the file one behind the other."""
    none = np.empty(0, np.int64)
    counts = [len(blob.functions) for blob in blobs]
    begin = np.concatenate([none, *(blob.functions for blob in blobs)])
    strings = np.repeat(np.array([len(blob.strings) for blob in blobs], np.int64), counts)
    end = np.repeat(np.array([blob.end for blob in blobs], np.int64), counts)
    end[:-1] = np.minimum(end[:-1], begin[1:])
    first = 0
    while first < len(begin):
        last = max(first + 1, int(np.searchsorted(begin, begin[first] + _BATCH)))
        here = slice(first, last)
        yield _batch(data, begin[here], end[here], strings[here])
        first = last


def _batch(data: bytes, begin: Index, end: Index, strings: Index) -> _Functions:
    """Functions, all their numbers decoded at once.

    Args:
        data: the file.
        begin: int64[F], where each begins, ascending.
        end: int64[F], behind which byte each must have ended.
        strings: int64[F], size of the string table that it refers to.

    """
    origin = int(begin[0])
    view = np.frombuffer(data, np.uint8, int(end[-1]) - origin, origin)
    stop = uleb.ends(view)
    start = np.empty_like(stop)
    start[:1] = 0
    start[1:] = stop[:-1] + 1
    # A name before a function may end in a byte with the high bit: a number begins at the offset.
    head = np.searchsorted(stop, begin - origin)
    if head[-1] >= len(stop):
        raise CoverageDataError("a function has no end")
    start[head] = begin - origin
    sizes = uleb.values(view, start[head], stop[head]).astype(np.int64)
    literal = head + 3 + 5 * sizes
    if literal.max() >= len(stop) or (stop[literal] >= end - origin).any():
        raise CoverageDataError("a function has more units than room")
    names = uleb.values(view, start[head + 1], stop[head + 1])
    files = uleb.values(view, start[head + 2], stop[head + 2])
    if (names >= strings).any() or (files >= strings).any():
        raise CoverageDataError("a function's name is not in its string table")
    index = np.repeat(head + 3 - 5 * (np.cumsum(sizes) - sizes), 5 * sizes)
    index += np.arange(len(index))
    return _Functions(
        sizes=sizes.astype(np.uint32),
        names=names,
        files=files,
        literals=uleb.values(view, start[literal], stop[literal]),
        units=uleb.values(view, start[index], stop[index]).reshape(-1, 5),
    )


def write(meta: Meta) -> bytes:
    """A `covmeta` file: byte for byte as Go writes it. Its name is `covmeta.` and the hash."""
    blobs = [_write_package(meta, number) for number in range(len(meta.packages))]
    strings = uleb.write_strings([""])
    offset = _HEADER.size + 16 * len(blobs)
    sizes = np.array([len(blob) for blob in blobs], "<u8")
    starts = (np.cumsum(sizes) - sizes + offset + len(strings)).astype("<u8")
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        offset + len(strings) + int(sizes.sum()),
        len(blobs),
        meta.hash,
        offset,
        len(strings),
        meta.mode,
        meta.granularity,
    )
    return b"".join([header, starts.tobytes(), sizes.tobytes(), strings, *blobs])


def _write_package(meta: Meta, number: int) -> bytes:
    package = meta.packages[number]
    shift, end = meta.package_strings[number : number + 2].tolist()
    table = meta.strings[shift:end]
    strings = uleb.write_strings(table)
    functions = slice(*meta.package_functions[number : number + 2].tolist())
    units = meta.function_units[functions.start : functions.stop + 1].astype(np.int64)
    counts = np.diff(units)
    # Each function: its units, name and file; five numbers for each unit; whether it is a literal.
    width = 4 + 5 * counts
    head = np.cumsum(width) - width
    numbers = np.empty(int(width.sum()), np.uint32)
    body = np.ones(len(numbers), bool)
    for column, value in (
        (head, counts),
        (head + 1, meta.function_name[functions] - shift),
        (head + 2, meta.function_file[functions] - shift),
        (head + width - 1, meta.function_literal[functions]),
    ):
        numbers[column] = value
        body[column] = False
    numbers[body] = meta.units[units[0] : units[-1]].ravel()
    start = _PACKAGE.size + 4 * len(counts) + len(strings)
    place = np.concatenate([[0], np.cumsum(uleb.sizes(numbers))]) + start
    header = _PACKAGE.pack(
        int(place[-1]),
        table.index(package.name),
        table.index(package.path),
        table.index(package.module),
        package.hash,
        len(table),
        len(counts),
    )
    offsets = place[head].astype("<u4").tobytes()
    return b"".join([header, offsets, strings, uleb.encode(numbers)])
