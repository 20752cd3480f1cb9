"""What a node's image names stand for, by scripts that run here, on a list as `ctr` prints it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_kindcov.cluster import node

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
OLD_ID, NEW_ID = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
HEAD = "REF TYPE DIGEST SIZE PLATFORMS LABELS"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `ctr` that lists a file, and notes what else it is told."""
    program = tmp_path / "ctr"
    program.write_text(
        f"#!/bin/sh\nshift 3\n[ $1 = ls ] && exec cat {tmp_path}/list\n"
        f'echo "$@" >> {tmp_path}/told\n'
        f'[ $1 != rm ] || sed -i "\\|^$2 |d" {tmp_path}/list\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def names(store: Path, **digests: str) -> None:
    lines = [f"{name} type {digest} 1MiB linux/amd64 -" for name, digest in digests.items()]
    (store / "list").write_text("\n".join([HEAD, *lines]) + "\n")


def script(text: str, *args: str) -> str:
    done = subprocess.run(
        ["bash", "-c", text, "kindcov", *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_id(store: Path) -> None:
    names(store, **{"web:dev": OLD, OLD_ID: OLD, "db:dev": NEW, f"import-1@{OLD}": OLD})
    assert script(node._IMAGE_ID, "web:dev") == OLD_ID
    assert script(node._IMAGE_ID, "db:dev") == NEW  # without an id: but it is there
    assert script(node._IMAGE_ID, "web") == ""


def told(store: Path) -> list[str]:
    return (store / "told").read_text().splitlines()


def test_new_name_goes_with_what_the_import_gave_it(store: Path) -> None:
    names(store, **{"web:dev": NEW, NEW_ID: NEW, f"import-1@{NEW}": NEW, "db:dev": OLD})
    script(node._RESTORE, "web:dev", "")
    assert told(store) == ["rm web:dev", f"rm {NEW_ID}", f"rm import-1@{NEW}"]


def test_content_that_has_another_name_stays(store: Path) -> None:
    names(store, **{"web:dev": NEW, NEW_ID: NEW, "db:dev": NEW})
    script(node._RESTORE, "web:dev", "")
    assert told(store) == ["rm web:dev"]


def test_name_stands_again_for_what_it_did(store: Path) -> None:
    names(store, **{"web:dev": NEW, NEW_ID: NEW, OLD_ID: OLD, "web:also": NEW})
    script(node._RESTORE, "web:dev", OLD_ID)
    assert told(store) == [f"tag --force {OLD_ID} web:dev"]
