"""Reports of 100,000 units, against Go's page and the converters that are used with it.

From the same text profile and the same source: `kindcov report` makes pages, Cobertura and LCOV,
each alone and all at once; `go tool cover -html`, gocover-cobertura and gcov2lcov make the same,
one after the other. Whole processes are measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hand
import large
from machine import MEMORY, timed
from pairs import Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from machine import Bench

UNITS, TESTS = 100_000, 20
CONVERTERS = (
    "github.com/boumenot/gocover-cobertura@v1.4.0",
    "github.com/jandelgado/gcov2lcov@v1.1.1",
)


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    tools = bench.directory("tools")
    for package in CONVERTERS:
        bench.say(f"installing {package}")
        hand.call(["go", "install", package], tools, {"GOBIN": str(tools), "GOFLAGS": ""})
    service = large.Service(large.sample(bench.directory("sample")), UNITS)
    root, out = bench.directory("service"), bench.directory("out")
    service.lay(root)
    text = out / "coverage.out"
    service.profile(text, service.counters(TESTS))
    theirs: dict[str, tuple[str, Callable[[], None]]] = {
        "html": (
            "go tool cover -html",
            lambda: _process(["go", "tool", "cover", f"-html={text}", "-o", out / "go.html"], root),
        ),
        "xml": (
            "gocover-cobertura",
            lambda: _process([tools / "gocover-cobertura"], root, text, out / "go.xml"),
        ),
        "lcov": (
            "gcov2lcov",
            lambda: _process(
                [tools / "gcov2lcov", f"-infile={text}", f"-outfile={out / 'go.lcov'}"], root
            ),
        ),
    }
    peaks = []

    def ours(*kinds: str) -> Callable[[], dict[str, float]]:
        command = [sys.executable, "-m", "pytest_kindcov", "report", str(text), "--root", str(root)]
        command += [f"--report={kind}:{out / kind}" for kind in kinds]

        def work() -> dict[str, float]:
            spent, peak, _ = timed(command, out)
            peaks.append(peak)
            return {f"ours {'+'.join(kinds)}": spent}

        return work

    def other() -> dict[str, float]:
        taken = {}
        for kind, (_, work) in theirs.items():
            begin = time.perf_counter()
            work()
            taken[f"other {kind}"] = time.perf_counter() - begin
        return taken

    for work in (other, ours(*theirs)):
        work()  # Go builds its tools when they are first used; and who is the first reads the disk
    _same(out)
    peaks.clear()
    works = [other, *(ours(kind) for kind in theirs), ours(*theirs)]
    taken = alternate(bench.pairs, works)
    goal, size = Goal("at most", 1.0), f"{UNITS:,} units"
    whole = tuple(map(sum, zip(*(taken[f"other {kind}"] for kind in theirs), strict=True)))
    names = ", ".join(name for name, _ in theirs.values())
    yield Row(f"html, xml, lcov of {size}", "s", taken["ours html+xml+lcov"], names, whole, goal)
    for kind, (name, _) in theirs.items():
        yield Row(f"{kind} of {size}", "s", taken[f"ours {kind}"], name, taken[f"other {kind}"])
    limit = Goal("below", MEMORY)
    yield Row(f"html, xml, lcov of {size}, memory", "MB", (max(peaks),), goal=limit)


def _process(
    command: Sequence[str | Path], cwd: Path, source: Path | None = None, to: Path | None = None
) -> None:
    """Run a command, perhaps from a file and to a file."""
    with (
        (source or Path(os.devnull)).open("rb") as given,
        (to or Path(os.devnull)).open("wb") as output,
    ):
        subprocess.run(command, cwd=cwd, stdin=given, stdout=output, check=True, timeout=600)


def _same(out: Path) -> None:
    """That both made reports of the same files."""
    ours, other = ((out / name).read_text().count("\nSF:") for name in ("lcov", "go.lcov"))
    if ours != other:
        raise RuntimeError(f"the reports differ: {ours} and {other} files")
