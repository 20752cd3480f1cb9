"""The source files behind coverage data: where they are, who wrote them, are they what was built.

Nothing here trusts a file name or a text: what cannot be read is not there.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import modcache
from pytest_kindcov.covdata.paths import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

# As Go's ast.IsGenerated: in any comment before the package clause, on a line of its own.
_GENERATED = re.compile(rb"// Code generated .* DO NOT EDIT\.\r?", re.ASCII)
_HEAD = re.compile(rb"/\*.*?\*/|//[^\n]*|\bpackage\b", re.DOTALL)
# What `go build` takes from a package's directory: `go help packages`, go/build.Package.
_COMPILED = (
    ".go", ".c", ".cc", ".cpp", ".cxx", ".m", ".h", ".hh", ".hpp", ".hxx", ".f", ".F", ".for",
    ".f90", ".s", ".S", ".sx", ".swig", ".swigcxx", ".syso",
)  # fmt: skip
_EMBED = re.compile(rb"^//go:embed[ \t]+(.+)", re.MULTILINE)
_AS_DATA = " (embedded)"
_PATTERN = re.compile(r'"[^"]*"|`[^`]*`|\S+')
# A generated file of a megabyte has that comment in its first lines.
_HEAD_SIZE = 1 << 16


@dataclass(frozen=True)
class Found:
    """A source file, or that there is none (`file` is None).

    Args:
        path: in the repository; "" if it is not there.
        file: where it can be read.
        text: all its bytes.

    """

    path: str = ""
    file: Path | None = None
    text: bytes = b""


def top(directory: str | os.PathLike[str]) -> Path:
    """The repository that a directory is in: where `.git` is, or else the directory itself.

    A home directory that is kept in git is not meant.
    """
    start = Path(directory).resolve()
    for place in (start, *start.parents):
        if place in (Path.home(), Path(place.anchor)):
            break
        if (place / ".git").exists():
            return place
    return start


def repository(directory: str | os.PathLike[str]) -> Repository:
    """The modules of a directory, with paths relative to the repository that it is in."""
    return Repository(top(directory), directory)


def find(name: str, own: Repository) -> Found:
    """The source of a file in coverage data, in the repository or in the cache of modules."""
    try:
        path = own.locate(name) or ""
        file = own.root / path if path else modcache.locate(name, own.releases)
        return Found(path, file, file.read_bytes()) if file else Found()
    except (OSError, ValueError):  # a name with a zero byte is a ValueError
        return Found()


def generated(text: bytes) -> bool:
    """Whether a text says of itself that it is generated, as Go wants it said."""
    for match in _HEAD.finditer(text[:_HEAD_SIZE]):
        if match[0] == b"package":
            return False
        if any(_GENERATED.fullmatch(line) for line in match[0].split(b"\n")):
            return True
    return False


def fits(text: bytes, units: npt.NDArray[np.uint32]) -> bool:
    """Whether units can be of this text: all their lines and columns are in it.

    Args:
        text: of a file.
        units: uint32[n, 5], as in `covdata.model.Meta`.

    """
    data = np.frombuffer(text + b"\n", np.uint8)
    breaks = np.flatnonzero(data == ord("\n"))
    length = np.diff(breaks, prepend=-1) - 1
    for line, column in ((units[:, 0], units[:, 1]), (units[:, 2], units[:, 3])):
        if not len(line):
            break
        if line.min() < 1 or line.max() > len(length):
            return False
        if (column > length[line.astype(np.int64) - 1] + 1).any():
            return False
    return True


def digest(text: bytes) -> str:
    """What `record` notes of a file."""
    import hashlib  # 4 ms

    return hashlib.sha256(text).hexdigest()


def record(own: Repository) -> dict[str, str]:
    """The digests of what a build is made of, by path.

    Those are the files of a repository's modules that Go compiles, and what these embed; git need
    not know them, as where code is generated.
    """
    found: dict[str, str] = {}
    for relative in sorted(own.modules.values()):
        for directory, below, names in os.walk(own.root / relative):
            below[:] = [d for d in below if not d.startswith(".") and d != "node_modules"]
            for name in names:
                if name.endswith(_COMPILED) and not name.endswith("_test.go"):
                    text = _add(found, own, Path(directory, name))
                    for match in _EMBED.finditer(text):
                        for path in _embedded(Path(directory), match[1].decode(errors="replace")):
                            # Go that is embedded is data: its comments count.
                            _add(found, own, path, _AS_DATA if path.suffix == ".go" else "")
    return found


def _add(found: dict[str, str], own: Repository, file: Path, behind: str = "") -> bytes:
    """Note a file, once; its text."""
    path = file.relative_to(own.root).as_posix() + behind
    if path in found:
        return b""
    try:
        text = file.read_bytes()
    except OSError:  # it went meanwhile, or is no file
        return b""
    found[path] = digest(text)
    return text


def _embedded(directory: Path, patterns: str) -> Iterator[Path]:
    """The files that patterns of `//go:embed` may mean."""
    for pattern in _PATTERN.findall(patterns):
        word = pattern.strip('`"').removeprefix("all:")
        with contextlib.suppress(ValueError, NotImplementedError):  # Go does not take it either
            for path in directory.glob(word):
                yield from path.rglob("*") if path.is_dir() else (path,)


def changed(found: Found, units: npt.NDArray[np.uint32], recorded: Mapping[str, str]) -> bool:
    """Whether a text is not what was built.

    Args:
        found: the source.
        units: uint32[n, 5]: what was built of it.
        recorded: by path, digests from before the build. Without one, only what cannot be is seen.

    """
    if found.file is None:
        return False
    before = recorded.get(found.path) if found.path else None
    if before is not None and before != digest(found.text):
        return True
    return not fits(found.text, units)
