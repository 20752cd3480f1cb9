"""What an executable says of itself: Go's build id, and where its counters will be in memory.

Formats: ELF-64 (System V ABI, ch. 4 and 5), little-endian, as on amd64 and arm64; the build id's
note: Go's cmd/internal/buildid; the run of addresses: `moduledata` in Go's runtime/symtab.go, 1.20
to 1.27. The file is whatever a container runs: nothing in it is trusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    Fetch = Callable[[int, int], bytes]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = 3  # e_type ET_DYN
_AT_ENTRY = 9  # elf.h
# Bounds. Go's programs have some 25 sections; with cgo 45.
_MAX_SECTIONS = 1000
_MAX_NAMES = 64 << 10
_MAX_NOTE = 1 << 10
# Bytes. .noptrdata of a Kubernetes controller of 57 MB has 0.3 MB.
_MAX_MODULE = 32 << 20
# How often that section may hold the address of .noptrbss; Go's hold it once or twice.
_MAX_MENTIONS = 10_000
MAX_REGION = 64 << 20
"""Bytes of counters. A Kubernetes controller of 57 MB has 126 KB."""
RUN = 5
"""Words (u64) of the run of addresses that `find_region` looks for."""


@dataclass(frozen=True)
class Binary:
    """A Go program's file. Addresses are the file's; see `pie`."""

    build_id: str
    """Go's, as `go tool buildid` prints it; may be empty."""
    pie: bool
    """Whether it is loaded elsewhere; how far is `bias`."""
    entry: int
    """Address at which it begins to run."""
    module: tuple[int, int]
    """Address and size in bytes of the section that holds the moduledata."""
    noptrbss: int
    """Address of the section in which the counters are."""


@dataclass(frozen=True)
class Region:
    """Where the counters are in a process' memory."""

    at: int
    """Where in the given bytes the run of addresses is that says so."""
    start: int
    end: int
    """Equal to `start` in programs that were not built with -cover."""


def read(fetch: Fetch) -> Binary | None:
    """Read an executable.

    Args:
        fetch: gives the bytes at an offset of the file, at most a length; fewer at its end.

    Returns:
        None when this is not a Go program.

    Raises:
        CoverageDataError: it cannot be said, as the file is no ELF-64 or has no section headers.

    """
    header = _exactly(fetch, 0, _HEADER.size)
    if header[:6] != b"\x7fELF\x02\x01":
        raise CoverageDataError("not a little-endian 64-bit ELF file")
    (_, kind, _, _, entry, _, sections_at, _, _, _, _, section_size, sections, names) = (
        _HEADER.unpack(header)
    )
    if not sections_at or not sections:
        raise CoverageDataError("it has no section headers, as packed programs have none")
    if section_size != _SECTION.size or not names < sections <= _MAX_SECTIONS:
        raise CoverageDataError("its section headers are damaged")
    table = _exactly(fetch, sections_at, sections * _SECTION.size)
    rows = list(_SECTION.iter_unpack(table))
    names_at, names_size = rows[names][4:6]
    text = _exactly(fetch, names_at, min(names_size, _MAX_NAMES))
    # By name: address, offset in the file, size.
    found: dict[bytes, tuple[int, int, int]] = {}
    for row in rows:
        found.setdefault(_name(text, row[0]), row[3:6])
    if b".noptrbss" not in found:
        return None
    module = found.get(b".go.module") or found.get(b".noptrdata")
    if module is None:
        return None
    if not 0 < module[2] <= _MAX_MODULE:
        raise CoverageDataError("the section with its moduledata has no plausible size")
    note = found.get(b".note.go.buildid")
    return Binary(
        _build_id(_exactly(fetch, note[1], min(note[2], _MAX_NOTE))) if note else "",
        kind == _DYNAMIC,
        entry,
        (module[0], module[2]),
        found[b".noptrbss"][0],
    )


def bias(binary: Binary, auxv: bytes) -> int:
    """How far from the file's addresses a process has the program.

    The kernel tells each program where it was made to begin, among what /proc/PID/auxv shows. The
    mappings' names and inodes would be another way, but overlay file systems disguise those.

    Args:
        binary: the program.
        auxv: pairs of u64, type and value.

    Raises:
        CoverageDataError: the kernel did not say.

    """
    if not binary.pie:
        return 0
    for kind, value in struct.iter_unpack("<QQ", auxv[: len(auxv) // 16 * 16]):
        if kind == _AT_ENTRY and value >= binary.entry:
            return int(value - binary.entry)
    raise CoverageDataError("the kernel does not say where it was loaded")


def find_region(module: bytes, noptrbss: int) -> Region | None:
    """Find the addresses of the counters among the words of the moduledata's section.

    Args:
        module: the section as it is in memory, where its addresses are the real ones.
        noptrbss: where .noptrbss is in memory.

    Returns:
        None when the moduledata is not there: not loaded yet, or of a Go before 1.20.

    Raises:
        CoverageDataError: it is there, but has no plausible region.

    """
    wanted = (noptrbss % (1 << 64)).to_bytes(8, "little")
    at = -1
    for _ in range(_MAX_MENTIONS):
        at = module.find(wanted, at + 1)
        if at < 0:
            break
        run = module[at : at + RUN * 8]
        if at % 8 == 0 and len(run) == RUN * 8:
            low, high, start, end, behind = struct.unpack("<5Q", run)
            if low <= start <= end <= high <= behind:
                if (end - start) % 4 or start % 4 or end - start > MAX_REGION:
                    raise CoverageDataError("its counters have no plausible size")
                return Region(at, start, end)
    return None


def _exactly(fetch: Fetch, offset: int, length: int) -> bytes:
    data = fetch(offset, length)
    if len(data) != length:
        raise CoverageDataError("it is shorter than its headers say")
    return data


def _name(text: bytes, at: int) -> bytes:
    """A section's name; empty when it is outside. Those that matter are short."""
    return text[at : at + 32].partition(b"\0")[0]


def _build_id(note: bytes) -> str:
    """Of the note's name and descriptor: sizes, type 4, "Go", the build id."""
    if len(note) < 16:
        return ""
    name, length, kind = struct.unpack("<III", note[:12])
    if (name, kind, note[12:16]) != (4, 4, b"Go\0\0"):
        return ""
    return note[16 : 16 + length].decode("ascii", errors="replace")
