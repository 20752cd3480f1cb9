"""The Python environment of this checkout: `.venv`, with the package and its test extras."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

from setuplib import machine
from setuplib.steps import ROOT, ask, must, step

if TYPE_CHECKING:
    from pathlib import Path

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed-from"
PIP_TIMEOUT = 900.0  # seconds: a cold cache and a slow index; 20 s is usual


def fingerprint(pyproject: bytes, root: Path) -> str:
    """Give what the environment depends on: the requirements and the checkout's place."""
    return hashlib.sha256(pyproject + b"\0" + str(root).encode()).hexdigest()


def ensure() -> Path:
    """Make `.venv` what pyproject.toml asks for; give its Python.

    Raises SetupError where Python's venv module is missing, or the index cannot be reached.
    """
    wanted = fingerprint((ROOT / "pyproject.toml").read_bytes(), ROOT)
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return PYTHON
    usable = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    with step("Python environment (.venv)"):
        # One that somebody made by hand keeps what is in it.
        if ask([PYTHON, "-c", usable], 30).code != 0:
            create()
        pip_install("-e", f"{ROOT}[test]")
    STAMP.write_text(wanted)
    return PYTHON


def create() -> None:
    """Make an empty `.venv`. Raises SetupError where Python's venv module is missing."""
    if ask([sys.executable, "-c", "import venv, ensurepip"], 30).code != 0:
        # Debian splits these off; the package's name carries the version.
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        machine.apt_install([f"python{version}-venv"], "Python's venv module is missing")
    must(
        [sys.executable, "-m", "venv", "--clear", VENV],
        120,
        "Remedy: make sure that `python3 -m venv` works.",
    )


def pip_install(*what: str) -> None:
    """Install into `.venv`. Raises SetupError with pip's last lines."""
    must(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what],
        PIP_TIMEOUT,
        "Remedy: check that pip reaches its package index (pip config list).",
        {**os.environ, "PIP_NO_INPUT": "1"},
    )
