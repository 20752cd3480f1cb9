"""Names of files and packages as settings mean them: globs, and the word `generated`."""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindcov.report.model import Source

GENERATED = "generated"


def matches(glob: str, names: Iterable[str]) -> bool:
    """Whether a glob means one of these names, an end of it, or a directory above it.

    `*` stands for anything, a `/` too; `**/` may also stand for nothing. `./` is the repository's
    root.
    """
    plain = glob.strip().removeprefix("./").rstrip("/")
    forms = {plain, plain.replace("**/", "")}
    if not glob.strip().startswith("./"):
        forms |= {f"*/{form}" for form in forms}
    forms |= {f"{form}/*" for form in forms}
    return any(fnmatchcase(name, form) for name in names for form in forms)


def file_names(file: Source) -> tuple[str, ...]:
    """What a file is called by: its path in the repository, and Go's name."""
    return (file.path, file.name) if file.path else (file.name,)


def package_names(files: Iterable[Source]) -> set[str]:
    """What the package of these files is called by: its import path, and its directory."""
    names = {file.package for file in files}
    return names | {posixpath.dirname(file.path) or "." for file in files if file.path}


def unused(files: Iterable[Source], globs: Iterable[str]) -> list[str]:
    """Those that mean no file and no package, be they misspelt or of former times."""
    names = {name for file in files for name in (*file_names(file), *package_names([file]))}
    return [glob for glob in globs if not matches(glob, names)]


def why_not(file: Source, include: Iterable[str], exclude: Iterable[str]) -> str:
    """By which setting a file is left out; "" when by none.

    Args:
        file: the file.
        include: globs of files and packages; none: all.
        exclude: the same, and `generated`.

    """
    names = {*file_names(file), *package_names([file])}
    for glob in exclude:
        if glob == GENERATED:
            if file.generated:
                return GENERATED
        elif matches(glob, names):
            return f"exclude {glob}"
    wanted = list(include)
    return "" if not wanted or any(matches(glob, names) for glob in wanted) else "not included"
