"""GitHub workflows of the pages, by actionlint: it knows more than the schema."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import mdblocks
import pytest
from mdblocks import Block

if TYPE_CHECKING:
    from pathlib import Path

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
WORKFLOWS = [
    block
    for page in mdblocks.PAGES
    for block in mdblocks.blocks(page)
    if block.file.startswith(".github/workflows/")
]


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled from its module."""
    place = tmp_path_factory.mktemp("actionlint")
    env = {**os.environ, "GOBIN": str(place), "GOFLAGS": ""}
    subprocess.run(["go", "install", ACTIONLINT], env=env, check=True, timeout=600)
    return place / "actionlint"


def lint(actionlint: Path, tmp_path: Path, text: str) -> str:
    """What it has to say, whatever other linters are on this machine."""
    file = tmp_path / "workflow.yml"
    file.write_text(text)
    done = subprocess.run(
        [actionlint, "-shellcheck=", "-pyflakes=", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("block", WORKFLOWS, ids=lambda block: block.name)
def test_workflow(block: Block, actionlint: Path, tmp_path: Path) -> None:
    assert lint(actionlint, tmp_path, block.text) == ""


def test_it_does_object(actionlint: Path, tmp_path: Path) -> None:
    wrong = WORKFLOWS[1].text.replace("matrix.shard", "matrix.part")
    assert 'property "part" is not defined' in lint(actionlint, tmp_path, wrong)
