"""What the package can say: the slugs of its messages, read from its source."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_kindcov
from pytest_kindcov.cluster import diagnose
from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_kindcov"
DOCUMENT = ROOT / "docs/messages.md"
BEGIN, END = "<!-- catalogue -->", "<!-- /catalogue -->"
# Which argument of these is the slug.
_POSITION = {"fault": 0, "Fault": 0, "_Rule": 0, "Check": 4}


def error_classes() -> dict[str, type[KindCovError]]:
    """All of the package's errors, by name."""
    for module in pkgutil.walk_packages(pytest_kindcov.__path__, "pytest_kindcov."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[KindCovError]] = {}

    def add(cls: type[KindCovError]) -> None:
        found[cls.__name__] = cls
        for child in cls.__subclasses__():
            if child.__module__.startswith("pytest_kindcov."):
                add(child)

    add(KindCovError)
    return found


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """All calls of the package by name, with where they are."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name, node


def used() -> set[str]:
    """The slugs of all messages."""
    found = {entry.slug for entry in diagnose.catalogue()}
    found |= {cls.slug for cls in error_classes().values() if cls.slug}
    for _, name, call in calls():
        given = [keyword.value for keyword in call.keywords if keyword.arg == "slug"]
        if name in _POSITION:
            given += call.args[_POSITION[name] :][:1]
        found |= {text for value in given for text in _texts(value)}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                found |= set(_texts(node.value)) if names == ["slug"] else set()
            elif isinstance(node, ast.arguments):
                found |= set(_defaults(node))
    return {slug for slug in found if slug}


def documented() -> list[str]:
    """The slugs that the document names, in its order."""
    return re.findall(r"^\| `([a-z0-9-]+)` \|", DOCUMENT.read_text(), re.MULTILINE)


def catalogue_table() -> str:
    """The document's part on what kind and its nodes say."""
    rows = [
        f"| `{entry.slug}` | {_cell(entry.cause)} | {_cell(entry.remedy)} |"
        for entry in sorted(diagnose.catalogue(), key=lambda entry: entry.slug)
    ]
    return "\n".join([BEGIN, "| slug | cause | remedy |", "|---|---|---|", *rows, END])


def _texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from (*_texts(value.body), *_texts(value.orelse))
    elif isinstance(value, ast.BoolOp):
        yield from (text for each in value.values for text in _texts(each))


def _defaults(arguments: ast.arguments) -> Iterator[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    late = positional[len(positional) - len(arguments.defaults) :]
    pairs = [
        *zip(late, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if argument.arg == "slug" and default is not None:
            yield from _texts(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":  # writes the catalogue's part anew
    text = DOCUMENT.read_text()
    begin, end = text.index(BEGIN), text.index(END) + len(END)
    DOCUMENT.write_text(text[:begin] + catalogue_table() + text[end:])
