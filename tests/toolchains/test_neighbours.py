"""Beside the most used plugins of pytest, all of them at once.

They are packages of the Python index, kept in `~/.cache/kindcov/neighbours`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("neighbours.txt")
CACHE = Path.home() / ".cache" / "kindcov" / "neighbours"
# What is loaded beside those of the list: our own dependencies, and those of the tests.
ALSO = {"xdist", "kind", "kindcov", "anyio", "hypothesis"}


@pytest.fixture(scope="session")
def neighbours() -> Path:
    """A directory with all of them, installed if it is not there."""
    directory = CACHE / hashlib.sha256(LIST.read_bytes()).hexdigest()[:16]
    if not directory.exists():
        partial = directory.with_suffix(f".{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(partial), "-r", str(LIST)], check=True, timeout=600)
        try:
            partial.rename(directory)
        except OSError:  # another run was faster
            shutil.rmtree(partial)
    return directory


def run(
    directory: Path, neighbours: Path, *args: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """pytest in a directory, with all plugins."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=directory,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("KINDCOV_")},
            "PYTHONPATH": str(neighbours),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_no_clash(neighbours: Path, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "def test_one(kindcov, mocker, benchmark, httpserver):\n    assert kindcov.settle()\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nkindcov_dir = elsewhere\n")
    told = run(tmp_path, neighbours, "--help").stdout
    for flag in (
        "--kind-coverage ",
        "--kind-coverage-fail-under",
        "--cov=",
        "--timeout=",
        "--html=",
    ):
        assert flag in told, flag
    done = run(tmp_path, neighbours, "--strict-config", "-p", "no:sugar")
    assert re.search("1 passed", done.stdout)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("plugins: ")]
    # Such as mock-3.15.1; a name with an underscore keeps its prefix.
    names = line.removeprefix("plugins: ").replace("_", "-").split(", ")
    loaded = {name.rpartition("-")[0].removeprefix("pytest-") for name in names}
    listed = set(re.findall(r"^pytest-([\w-]+)==", LIST.read_text(), re.MULTILINE))
    assert len(listed) >= 20
    assert loaded >= (listed - {"sugar"}) | ALSO
    assert "kind coverage" not in done.stdout


def test_runs_are_as_without_us(neighbours: Path, tmp_path: Path) -> None:
    """With all plugins, workers, and our coverage asked for: a suite that needs no cluster."""
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    for args in (["-n", "2"], ["--kind-coverage", "--cov=.", "-p", "no:xdist"]):
        done = run(tmp_path, neighbours, *args)
        assert "passed" in done.stdout
        assert "kind coverage" not in done.stdout
        assert "Warning" not in done.stdout
