"""Who tests what: coverage.py's format, its own tools on it, and `kindcov why`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gocover import MIX

from pytest_kindcov import cli
from pytest_kindcov.covdata import store
from pytest_kindcov.report import contexts, datawrite, types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindcov.covdata.model import Meta

HOSTILE = 't.py::test_h["<script>\n' + "x" * 10_000 + "\udcff']"


@pytest.fixture
def meta(mix: Callable[[str], Path]) -> Meta:
    (program,) = store.read([mix("atomic")]).programs
    return program.meta


@pytest.fixture
def data(tmp_path: Path, meta: Meta) -> Path:
    """Contexts a and b, which have some units in common."""
    half = np.arange(len(meta) // 2, dtype=np.int32)
    ran = [
        ("t.py::test_a", half),
        ("t.py::test_b", half[: len(half) // 2]),
        ("t.py::test_c [shared]", half[:3]),
        (HOSTILE, half[:1]),
        ("background", half[:1]),
    ]
    builds = [(name, {meta.hash: units}) for name, units in ran]
    contexts.write(tmp_path / "out", MIX, {meta.hash: meta}, builds)
    return tmp_path / "out"


def why(capsys: pytest.CaptureFixture[str], data: Path, question: str) -> tuple[int, str]:
    code = cli.main(["why", question, "--data", str(data)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def coverage(data: Path, *args: str) -> str:
    words = [
        sys.executable,
        "-m",
        "coverage",
        args[0],
        f"--rcfile={data / 'coveragerc'}",
        *args[1:],
    ]
    done = subprocess.run(words, cwd=data, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def first_line(meta: Meta) -> tuple[str, int]:
    """Go's name of the first unit's file, and its line."""
    return meta.strings[meta.function_file[0]], int(meta.units[0, 0])


def test_data_file_is_private(data: Path) -> None:
    assert (data / ".coverage").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in data.iterdir()} == {".coverage", "coveragerc"}


def test_why_line(data: Path, meta: Meta, capsys: pytest.CaptureFixture[str]) -> None:
    name, line = first_line(meta)
    for question in (f"{name}:{line}", f"{name.rpartition('/')[2]}:{line}"):
        code, text = why(capsys, data, question)
        assert code == 0, text
        assert "t.py::test_a" in text
        assert "shared" in text
        assert "background" in text


def test_why_test(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = why(capsys, data, "test_a")
    assert code == 0
    assert "nothing else ran" in text
    assert why(capsys, data, "t.py::test_b")[0] == 0


@pytest.mark.parametrize("question", ["nowhere.go:3", "test_unknown", "t.py::test_unknown"])
def test_unknown_is_an_error(data: Path, capsys: pytest.CaptureFixture[str], question: str) -> None:
    code, text = why(capsys, data, question)
    assert code == 1
    assert question.partition(":")[0] in text


def test_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = why(capsys, tmp_path, "test_a")
    assert code == 1
    assert "pytest --kind-coverage" in text


def test_tools_of_coverage_py(data: Path, meta: Meta) -> None:
    assert "TOTAL" in coverage(data, "report")
    coverage(data, "html")
    own = data / datawrite.OUTPUT
    pages = "".join(path.read_text() for path in (own / "html").glob("*.html"))
    assert "t.py::test_a" in pages
    assert "<script>\n" not in pages.partition("<body")[2].replace("<script>\n\n", "")
    coverage(data, "json", "--show-contexts")
    report = json.loads((own / "coverage.json").read_text())
    listed: Sequence[str] = [
        context
        for file in report["files"].values()
        for names in file["contexts"].values()
        for context in names
    ]
    assert "t.py::test_b" in listed
    coverage(data, "lcov")
    coverage(data, "xml")
    # Nothing of what a run writes there has the name of any of them.
    assert {path.name for path in data.iterdir()} == {".coverage", "coveragerc", datawrite.OUTPUT}
    assert datawrite.OUTPUT not in {kind.destination for kind in types.TYPES.values()}


def test_combined_by_coverage_py(data: Path, tmp_path: Path) -> None:
    """Its `combine` knows no tables of ours; the lines of a file are then those of the first."""
    both = tmp_path / "both"
    words = ["combine", "--keep", f"--data-file={both}", str(data / ".coverage")]
    coverage(data, *words)
    alone = coverage(data, "report")
    assert coverage(data, "report", f"--data-file={both}") == alone


def test_user_s_own_coverage_is_left_alone(data: Path, tmp_path: Path) -> None:
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208 (names alone)
