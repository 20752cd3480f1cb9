"""The rooms and their arrows: imports never go up, and heavy libraries stand where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_kindcov"

# A room may import the rooms below it.
ROOMS = [
    ("plugin", "_xdist", "_contexts", "_select", "suites", "__main__"),
    ("cli",),
    ("session", "fixtures", "doctor", "select"),
    ("handle",),
    ("state",),
    ("options",),
    ("harvest", "report"),
    ("service",),
    ("cluster",),
    ("covdata", "gotests"),
    ("_run", "_wait", "_signals", "_proxy", "_text", "wire", "errors"),
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

ONLY_IN = {
    "pytest": {"plugin", "fixtures", "options", "suites", "_xdist", "_contexts", "_select"},
    "numpy": {"covdata", "harvest", "report"},
    "coverage": {"report"},
    "kubernetes": {"cluster/api", "cluster/execute"},
    "python_on_whales": {"cluster/engine"},
    "pytest_kind": {"cluster/kind"},
}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(module: Path) -> set[str]:
    """Full names of what a module imports, at any depth of it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(module: Path) -> None:
    own = str(module.relative_to(PACKAGE).with_suffix(""))
    room = own.split("/", maxsplit=1)[0]
    for name in _imports(module):
        top = name.split(".")[0]
        if top in ONLY_IN:
            assert {own, room} & ONLY_IN[top], f"{own} imports {top}"
        if top == "pytest_kindcov" and room != "__init__":
            imported = name.split(".")[1]
            assert LEVEL[imported] >= LEVEL[room], f"{own} imports {name}, which stands above it"
