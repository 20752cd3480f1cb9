"""From the file names in coverage data to Go's cache of modules.

Coverage data name a file by its module's path, without the version; that is in the `go.mod` files
of the repository. Directories of the cache: golang.org/ref/mod#module-cache.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

_UPPER = re.compile(r"[A-Z]")


def directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Go's cache of modules: GOMODCACHE, else in the first directory of GOPATH, else at home."""
    if environment.get("GOMODCACHE"):
        return Path(environment["GOMODCACHE"])
    path = environment.get("GOPATH", "").split(os.pathsep)[0]
    return (Path(path) if path else Path.home() / "go") / "pkg" / "mod"


def escaped(path: str) -> str:
    """A module's path as it is in the cache, where `Azure` is `!azure`."""
    return _UPPER.sub(lambda match: "!" + match[0].lower(), path)


def locate(
    name: str, releases: Mapping[str, Set[tuple[str, str]]], cache: Path | None = None
) -> Path | None:
    """The file in the cache; None if it is not there, or if its version is not known.

    Args:
        name: as in coverage data: `example.com/m/pkg/file.go`.
        releases: as in `paths.Repository`: more than one of a module is no answer.
        cache: the cache's directory.

    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        return None
    for length in range(len(parts) - 1, 0, -1):
        found = releases.get("/".join(parts[:length]), set())
        # A `replace` says which of a module's releases it is: that of another module.
        found = {one for one in found if one[0] != "/".join(parts[:length])} or found
        if len(found) == 1:
            ((module, version),) = found
            where = f"{escaped(module)}@{escaped(version)}"
            file = (cache or directory()) / where / PurePosixPath(*parts[length:])
            return file if file.is_file() else None
    return None
