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

    start: int
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
    if int(sizes.sum()) > len(data):  # would be read again and again
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
    if functions and not body <= start + int(offsets.min()) <= start + int(offsets.max()):
        raise CoverageDataError("a function lies outside its package")
    if functions and int(offsets.max()) >= size:
        raise CoverageDataError("a function lies outside its package")
    package = Package(strings[path], strings[name], strings[module], digest)
    return _Blob(start, start + size, package, strings, offsets + start)


def _meta(
    data: bytes, blobs: list[_Blob], digest: bytes, mode: Mode, granularity: Granularity
) -> Meta:
    strings: list[str] = []
    package_strings, package_functions = [0], [0]
    for blob in blobs:
        strings += blob.strings
        package_strings.append(len(strings))
        package_functions.append(package_functions[-1] + len(blob.functions))
    parts: list[_Functions] = []
    room = len(data)
    for batch in _batches(blobs):
        parts.append(_functions(data, batch, room))
        room -= 5 * len(parts[-1].units)
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


def _batches(blobs: list[_Blob]) -> Iterator[list[_Blob]]:
    """Packages that stand one behind the other in the file, `_BATCH` bytes at a time."""
    batch: list[_Blob] = []
    for blob in blobs:
        if batch and (blob.start != batch[-1].end or blob.end - batch[0].start > _BATCH):
            yield batch
            batch = []
        batch.append(blob)
    if batch:
        yield batch


@dataclass
class _Functions:
    """F functions as they are in the file, and their units."""

    sizes: Words
    names: Words
    files: Words
    literals: Words
    units: Words


def _functions(data: bytes, batch: list[_Blob], room: int) -> _Functions:
    """Functions of adjoining packages, all their numbers decoded at once.

    Args:
        data: the file.
        batch: the packages.
        room: bytes of the file that no unit has been read from.

    """
    begin = batch[0].start
    view = np.frombuffer(data, np.uint8, batch[-1].end - begin, begin)
    offsets = np.concatenate([blob.functions for blob in batch]) - begin
    if not offsets.size:
        none = np.empty(0, np.uint32)
        return _Functions(none, none, none, none, none.reshape(0, 5))
    counts = [len(blob.functions) for blob in batch]
    end = uleb.ends(view)
    start = np.empty_like(end)
    start[:1] = 0
    start[1:] = end[:-1] + 1
    # Names before a function may end in a byte with the high bit; the number begins at the offset.
    head = np.searchsorted(end, offsets)
    if head.max() >= len(end):
        raise CoverageDataError("a function has no end")
    start[head] = offsets
    sizes = uleb.values(view, start[head], end[head]).astype(np.int64)
    total = int(sizes.sum())
    if total * 5 > room:
        raise CoverageDataError("functions overlap, or have more units than fit into the file")
    literal = head + 3 + 5 * sizes
    limit = np.repeat([blob.end - begin for blob in batch], counts)
    if literal.max() >= len(end) or (end[literal] >= limit).any():
        raise CoverageDataError("a function lies outside its package")
    names = uleb.values(view, start[head + 1], end[head + 1])
    files = uleb.values(view, start[head + 2], end[head + 2])
    strings = np.repeat([len(blob.strings) for blob in batch], counts)
    if (names >= strings).any() or (files >= strings).any():
        raise CoverageDataError("a function's name is not in its string table")
    index = np.repeat(head + 3 - 5 * (np.cumsum(sizes) - sizes), 5 * sizes)
    index += np.arange(5 * total)
    return _Functions(
        sizes=sizes.astype(np.uint32),
        names=names,
        files=files,
        literals=uleb.values(view, start[literal], end[literal]),
        units=uleb.values(view, start[index], end[index]).reshape(-1, 5),
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
    functions = []
    for function in range(*meta.package_functions[number : number + 2].tolist()):
        first, last = meta.function_units[function : function + 2].tolist()
        name, file = meta.function_name[function], meta.function_file[function]
        head = [last - first, name - shift, file - shift]
        literal = [int(meta.function_literal[function])]
        numbers = np.concatenate([head, meta.units[first:last].ravel(), literal])
        functions.append(uleb.encode(numbers.astype(np.uint32)))
    sizes = np.array([len(function) for function in functions], np.int64)
    start = _PACKAGE.size + 4 * len(functions) + len(strings)
    header = _PACKAGE.pack(
        start + int(sizes.sum()),
        table.index(package.name),
        table.index(package.path),
        table.index(package.module),
        package.hash,
        len(table),
        len(functions),
    )
    offsets = (np.cumsum(sizes) - sizes + start).astype("<u4").tobytes()
    return b"".join([header, offsets, strings, *functions])
