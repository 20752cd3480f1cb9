"""Images of small Go programs, as somebody else than the plugin would have them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from pytest_kindcov.service import image

if TYPE_CHECKING:
    from pathlib import Path


def archive(directory: Path, source: str, reference: str) -> Path:
    """Build a program, without coverage, into a docker archive.

    Args:
        directory: for the program and the archive.
        source: of its `main.go`.
        reference: the image's name.

    """
    directory.mkdir(parents=True)
    (directory / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (directory / "main.go").write_text(source)
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""}
    command = ["go", "build", "-o", "program", "."]
    subprocess.run(command, cwd=directory, env=env, check=True, timeout=300)
    target = directory / "image.tar"
    pack(target, directory / "program", reference)
    return target


def pack(target: Path, program: Path, reference: str) -> None:
    """Make a docker archive of a static program."""
    arch = subprocess.run(
        ["go", "env", "GOARCH"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    image.write_archive(target, program=program, reference=reference, name="program", arch=arch)
