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
_USE = re.compile(r'"?(\.{0,2}(?:/[^\s"]*)?)"?\s*$')
# A release of another module, as `require` and `replace` name it.
_RELEASE = re.compile(r'(?:"?([^\s"]+)"?(?:\s+v\S+)?\s+=>\s+)?"?([^\s"]+)"?\s+(v\d\S*)\s*$')


class Repository:
    """The Go modules of a directory, and where its coverage data's files are in it.

    Args:
        root: the top directory; paths are relative to it.
        near: where to look first, if not at the top: a directory in it. Of two modules of one name
            that which is below it stands, then that which is above it or which those name by
            `go.work` or `replace`, then any other.

    Attributes:
        modules: by module path, its directory relative to the root ("." for the root itself).
        releases: by module path, the modules and versions that stand for it in some go.mod.

    """

    def __init__(
        self, root: str | os.PathLike[str], near: str | os.PathLike[str] | None = None
    ) -> None:
        self.root = Path(root).resolve()
        start = self.root if near is None else Path(near).resolve()
        self.modules: dict[str, str] = {}
        self.releases: dict[str, set[tuple[str, str]]] = {}
        self._vendors: list[str] = []
        self._replaced: dict[str, str] = {}
        self._read: set[Path] = set()
        self._below(start)
        for above in start.parents:
            if not above.is_relative_to(self.root):
                break
            self._module(above)
            if (above / "vendor").is_dir():
                self._vendors.append(self._relative(above / "vendor"))
        self._replace()
        if start != self.root:
            # Tests may stand beside the services, in a module of their own or in none.
            self._below(self.root)
            self._replace()

    def _below(self, start: Path) -> None:
        for directory, inner, _ in os.walk(start):
            here = Path(directory)
            vendor = self._relative(here / "vendor")
            if "vendor" in inner and vendor not in self._vendors:
                self._vendors.append(vendor)
            inner[:] = sorted(d for d in inner if d not in _SKIPPED and not d.startswith("."))
            self._module(here)

    def _replace(self) -> None:
        for module, relative in self._replaced.items():
            self.modules.setdefault(module, relative)

    def _relative(self, directory: Path) -> str:
        return directory.relative_to(self.root).as_posix()

    def _module(self, directory: Path) -> None:
        """Read what a directory says of modules, and the directories that it names for them."""
        if directory in self._read or not directory.is_relative_to(self.root):
            return
        self._read.add(directory)
        for name in ("go.mod", "go.work"):
            try:
                text = (directory / name).read_text("utf-8", "replace")
            except OSError:
                continue
            text = _COMMENT.sub("", text)
            if name == "go.mod" and (match := _MODULE.search(text)):
                self.modules.setdefault(match[1], self._relative(directory))
            self._directives(directory, text)

    def _directives(self, directory: Path, text: str) -> None:
        """`use`, `replace` and `require`, each as a line or as a block of lines."""
        block = ""
        for raw in text.splitlines():
            verb, _, rest = raw.strip().partition(" ")
            if verb == ")":
                block = ""
            elif rest.strip() == "(" or verb.endswith("("):
                block = verb.rstrip("(")
            elif verb:
                what = block or verb
                self._directive(directory, what, raw.strip() if block else rest.strip())

    def _directive(self, directory: Path, what: str, line: str) -> None:
        if what == "use" and (match := _USE.match(line)):
            self._module((directory / match[1]).resolve())
        elif what == "replace" and (match := _LOCAL.match(line)):
            # A module that is taken from a directory of the repository.
            target = (directory / match[2]).resolve()
            if target.is_relative_to(self.root):
                self._replaced[match[1]] = self._relative(target)
                self._module(target)
        elif what in ("require", "replace") and (match := _RELEASE.match(line)):
            self.releases.setdefault(match[1] or match[2], set()).add((match[2], match[3]))

    def locate(self, name: str) -> str | None:
        """The file in the repository, relative to its root with `/`; None if it is not there.

        Args:
            name: as in coverage data: `example.com/m/pkg/file.go`, or an absolute path.

        """
        if name.startswith("/") or re.match(r"[A-Za-z]:[\\/]", name):
            return self._absolute(name.replace("\\", "/"))
        parts = PurePosixPath(name).parts
        if ".." in parts or not parts:
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
