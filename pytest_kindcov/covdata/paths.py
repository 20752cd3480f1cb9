"""From the file names in coverage data to files of a repository.

Coverage data name a file by import path and base name, or, when `go build` was given files, by the
absolute path on the machine that built it. A repository has modules (`go.mod`), of which a
workspace (`go.work`) may name several, and perhaps copies of others under `vendor/`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

# Where no module of a repository's own is.
_SKIPPED = {"vendor", "node_modules", "testdata"}
_MODULE = re.compile(r'^\s*module\s+"?([^\s"/][^\s"]*)"?', re.MULTILINE)
_COMMENT = re.compile(r"//.*")
_LOCAL = re.compile(r'"?([^\s"]+)"?(?:\s+v\S+)?\s+=>\s+"?(\.{1,2}(?:/[^\s"]*)?)"?\s*$')


class Repository:
    """The Go modules of a directory, and where its coverage data's files are in it.

    Args:
        root: the top directory.

    Attributes:
        modules: by module path, its directory relative to the root ("." for the root itself).

    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self.modules: dict[str, str] = {}
        self._vendors: list[str] = []
        replaced: dict[str, str] = {}
        for directory, below, names in os.walk(self.root):
            relative = Path(directory).relative_to(self.root).as_posix()
            if "vendor" in below:
                self._vendors.append((PurePosixPath(relative) / "vendor").as_posix())
            below[:] = sorted(d for d in below if d not in _SKIPPED and not d.startswith("."))
            for name in {"go.mod", "go.work"}.intersection(names):
                text = (Path(directory) / name).read_text("utf-8", "replace")
                text = _COMMENT.sub("", text)
                if name == "go.mod" and (match := _MODULE.search(text)):
                    self.modules.setdefault(match[1], relative)
                replaced.update(self._replacements(Path(directory), text))
        for module, relative in replaced.items():
            self.modules.setdefault(module, relative)

    def _replacements(self, directory: Path, text: str) -> dict[str, str]:
        """Modules that are taken from a directory of the repository (`replace M => ./D`)."""
        found = {}
        for line in text.splitlines():
            if match := _LOCAL.match(line.strip().removeprefix("replace").strip()):
                target = (directory / match[2]).resolve()
                if target.is_relative_to(self.root):
                    found[match[1]] = target.relative_to(self.root).as_posix()
        return found

    def locate(self, name: str) -> str | None:
        """The file in the repository, relative to its root with `/`; None if it is not there.

        Args:
            name: as in coverage data: `example.com/m/pkg/file.go`, or an absolute path.

        """
        if name.startswith("/") or re.match(r"[A-Za-z]:[\\/]", name):
            return self._absolute(name.replace("\\", "/"))
        parts = PurePosixPath(name).parts
        if ".." in parts:
            return None
        for length in range(len(parts) - 1, 0, -1):
            directory = self.modules.get("/".join(parts[:length]))
            if directory is not None:
                found = self._file(directory, *parts[length:])
                if found:
                    return found
        for vendor in self._vendors:
            if found := self._file(vendor, *parts):
                return found
        if parts[0] == "command-line-arguments":
            return self._file(*parts[1:])
        return None

    def _absolute(self, name: str) -> str | None:
        """A file of this machine, or the longest end of its path that is in the repository.

        `/src/cmd/orders/main.go` of a build container is `cmd/orders/main.go`.
        """
        path = Path(os.path.normpath(name))
        if path.is_relative_to(self.root):
            return self._file(path.relative_to(self.root).as_posix())
        parts = path.parts[1:]
        for start in range(len(parts)):
            if found := self._file(*parts[start:]):
                return found
        return None

    def _file(self, *parts: str) -> str | None:
        relative = PurePosixPath(*parts)
        return relative.as_posix() if (self.root / relative).is_file() else None
