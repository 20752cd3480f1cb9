"""The quick start, word by word, with the wheel in a new environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from harness import ONE_ENGINE, ROOT, Runner
from mdblocks import Terminal, blocks, shows

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs/quickstart.md"
MOST_STEPS = 10


def built(directory: Path) -> Path:
    """The wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    (wheel,) = directory.glob("*.whl")
    return wheel


@ONE_ENGINE
def test_quick_start(runner: Runner, tmp_path: Path) -> None:
    wheel = built(tmp_path / "dist")
    # `pip install pytest-kindcov` is to give this one, whatever an index has.
    (tmp_path / "constraints").write_text(f"pytest-kindcov @ {wheel.as_uri()}\n")
    ours = str(ROOT / ".venv/bin")
    env = {
        **{key: value for key, value in runner.env.items() if not key.startswith("PYTHON")},
        "PATH": os.pathsep.join(p for p in runner.env["PATH"].split(os.pathsep) if p != ours),
        "PIP_CONSTRAINT": str(tmp_path / "constraints"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1",  # 3,000 modules of kubernetes, of which few are used
    }
    home = tmp_path / "work"
    home.mkdir()
    terminal = Terminal(home, env, 1200)
    steps, first, printed, compared = 0, 0, "", 0
    for block in blocks(PAGE):
        if block.language == "sh":
            printed = ""
            for line in block.text.splitlines():
                printed += terminal.run(line)
                steps += len(line.split("&&"))
                if line == "pytest --kind-coverage":
                    first = steps
        elif block.language == "text":
            assert shows(block.text, printed) == "", block.name
            compared += 1
        else:
            assert block.file, f"{block.name}: the line above says no file"
            terminal.write(block.file, block.text)
            steps += 1
    assert 0 < first <= MOST_STEPS
    assert compared == PAGE.read_text().count("```text")

    # The last command was `pytest`: the same without coverage.
    assert "1 passed" in printed
    assert "kind coverage" not in printed
    # As the page says.
    assert (home / "greeter/.kindcov/html/index.html").is_file()
    assert ".kindcov" not in terminal.run("git status --short --untracked-files=all")
    assert re.fullmatch(r"71\.4%", go_total(home / "greeter"))
    # It was the wheel, whole and alone.
    where = terminal.run("python -c 'import pytest_kindcov; print(pytest_kindcov.__file__)'")
    assert where.startswith(str(home / "greeter/.venv/lib"))
    version = terminal.run("python -c 'import pytest_kindcov; print(pytest_kindcov.__version__)'")
    assert version.strip() == wheel.name.split("-")[1]
    terminal.run("pip check")
    assert cluster_notes(runner) == []


def go_total(repository: Path) -> str:
    """Go's own word on the total."""
    done = subprocess.run(
        ["go", "tool", "cover", "-func=.kindcov/coverage.out"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.split()[-1]


def cluster_notes(runner: Runner) -> list[str]:
    """What these runs left: the notes of who made which cluster, and temporary files."""
    notes = (runner.tmp.parent / "home/state").rglob("*")
    return [
        *(str(path) for path in notes if path.is_file()),
        *(str(path) for path in runner.tmp.iterdir() if path.name.startswith("kindcov")),
    ]
