"""The types of reports: one table, one line for each. See `emit`.

A type's module has `content(report, flags) -> bytes` for a file, or `write(directory, report)` for
a directory, and then perhaps `check(target, report)`, which raises KindCovError if that is no place
for it. Modules are imported when they are used.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from pytest_kindcov.report.model import Report

STDOUT = "-"
NOWHERE = "no "
"""How `emit` begins to say that there is no report."""
_SUMMARY = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True)
class Type:
    """A type of report.

    Args:
        module: in `pytest_kindcov.report`.
        help: what it is, in a few words.
        destination: where it goes unless the user says; STDOUT: to standard output, or into the
            block at the end of a run; "" for one that must be said.
        flags: what its module is told.
        modifiers: what the user may add, as in `term:skip-covered`.
        directory: whether it is a directory.
        appends: whether it is added to what is there.
        own: what is replaced as a whole in a directory: a directory in it.
        first: what to open of a directory: a file in it.

    """

    module: str
    help: str
    destination: str
    flags: frozenset[str] = frozenset()
    modifiers: frozenset[str] = frozenset()
    directory: bool = False
    appends: bool = False
    own: str = ""
    first: str = ""


_SKIP = frozenset({"skip-covered"})

TYPES = {
    "term": Type("terminal", "packages", STDOUT, modifiers=_SKIP),
    "term-missing": Type("terminal", "files, lines", STDOUT, frozenset({"missing"}), _SKIP),
    "xml": Type("cobertura", "Cobertura", "coverage.xml"),
    "lcov": Type("lcov", "LCOV", "coverage.lcov"),
    "json": Type("jsonfile", "all of it", "coverage.json"),
    "markdown": Type("markdown", "for people", "coverage.md", modifiers=_SKIP),
    "markdown-append": Type("markdown", f"${_SUMMARY}", "", modifiers=_SKIP, appends=True),
    "go": Type("gotext", "Go's text profile", "coverage.out"),
    "html": Type(
        "html", "pages to look at", "html", directory=True, own="kindcov", first="index.html"
    ),
    "covdata": Type("covdata", "merged, for go tool covdata", "covdata", directory=True),
}


@dataclass(frozen=True)
class Request:
    """A report that is wanted.

    Args:
        kind: one of TYPES.
        destination: as the user said it; None: the type's own.
        modifiers: of the type.

    """

    kind: str
    destination: str | None = None
    modifiers: frozenset[str] = frozenset()

    @property
    def type(self) -> Type:
        """Its type."""
        return TYPES[self.kind]

    @property
    def flags(self) -> frozenset[str]:
        """What its module is told."""
        return self.type.flags | self.modifiers

    @property
    def printed(self) -> bool:
        """Whether it goes to standard output."""
        where = self.type.destination if self.destination is None else self.destination
        return where == STDOUT


def parse(text: str) -> Request:
    """Read `TYPE`, `TYPE:DEST`, `TYPE:MODIFIER` or `TYPE:MODIFIER:DEST`.

    Raises:
        ValueError: there is no such type.

    """
    kind, *rest = text.split(":", 1)
    if kind not in TYPES:
        raise ValueError(f"is none of {', '.join(TYPES)}")
    modifiers = set()
    while rest:
        word, _, behind = rest[0].partition(":")
        if word not in TYPES[kind].modifiers:
            break
        modifiers.add(word)
        rest = [behind] if ":" in rest[0] else []
    return Request(kind, rest[0] if rest and rest[0] else None, frozenset(modifiers))


def emit(request: Request, report: Report, base: Path) -> str:
    """Make one report.

    Args:
        request: what is wanted.
        report: what there is.
        base: where the types' own destinations are; the user's are from the working directory.

    Returns:
        Where it is, or why it is nowhere; "" for standard output.

    Raises:
        KindCovError: it cannot be written.

    """
    kind = request.type
    where = request.destination
    if where is None and kind.appends:
        where = os.environ.get(_SUMMARY)
        if not where:
            return f"{NOWHERE}{request.kind}: ${_SUMMARY} is not set"
    target = base / kind.destination if where is None else Path(where)
    module = _module(kind)
    try:
        if kind.directory:
            if request.printed:
                text(request, report)
            if hasattr(module, "check"):
                module.check(target, report)
            place.directory(target, lambda directory: module.write(directory, report), kind.own)
            return f"{target}/{kind.first}"
        data: bytes = module.content(report, request.flags)
        if request.printed:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return ""
        (place.append if kind.appends else place.file)(target, data)
    except OSError as error:
        raise KindCovError(
            f"the {request.kind} report cannot be written",
            cause=f"{target}: {error.strerror}",
            slug="report-not-written",
        ) from error
    return str(target)


def text(request: Request, report: Report) -> str:
    """A report that is a file, as text.

    Raises:
        KindCovError: it is a directory.

    """
    if request.type.directory:
        raise KindCovError(
            f"{request.kind} is a directory: name one", slug="report-needs-directory"
        )
    data: bytes = _module(request.type).content(report, request.flags)
    return data.decode("utf-8", "replace")


def _module(kind: Type) -> ModuleType:
    return importlib.import_module(f"pytest_kindcov.report.{kind.module}")


def described() -> Iterable[str]:
    """`term (packages)` and so on, for help."""
    return (f"{name} ({kind.help})" for name, kind in TYPES.items())
