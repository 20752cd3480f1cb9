"""Who ran what, at the size of a large service: 1,000 tests of 100,000 units.

Each test runs 1 % of all functions, and half of those of a tenth of the packages. Every step is a
process of its own, as it would be: the data file is written, `coverage report` and `kindcov why`
answer, and all reports are made. Seconds, and the peak of memory.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import large
from machine import MEMORY, timed
from pairs import Goal, Row, alternate

from pytest_kindcov.report import contexts, datawrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from machine import Bench

TESTS, UNITS = 1_000, 100_000
WRITING = "the data file is written"


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    each = large.sample(bench.directory("sample"))
    service = large.Service(each, UNITS)
    root = bench.directory("service")
    service.lay(root)
    run = root / ".kindcov"
    service.data(run / "covdata", service.counters(TESTS // 20))  # not all: some is missed
    python = [sys.executable]
    files = [f"--rcfile={run}/{datawrite.RCFILE}", f"--data-file={run}/.coverage"]
    why = [*python, "-m", "pytest_kindcov", "why", "--data", str(run)]
    report = [*python, "-m", "pytest_kindcov", "report", str(run)]
    report += [f"--report={kind}" for kind in ("term", "html", "xml", "lcov", "json", "markdown")]
    steps: dict[str, Sequence[str]] = {
        WRITING: [*python, __file__, str(root)],
        "coverage report": [*python, "-m", "coverage", "report", *files],
        "kindcov why FILE:LINE": [*why, f"{service.place(service.files // 2)}:15"],
        "kindcov why TEST": [*why, f"test_{TESTS // 2}["],
        "kindcov report, all types": report,
    }

    def work(name: str, command: Sequence[str]) -> Callable[[], dict[str, float]]:
        def step() -> dict[str, float]:
            spent, peak, printed = timed(command, root)
            if command is steps[WRITING]:
                spent = float(printed)  # without making up what the tests ran
            return {name: spent, f"{name}, memory": peak}

        return step

    # In this order: the later ones read what the first wrote.
    taken: dict[str, tuple[float, ...]] = {}
    for name, command in steps.items():
        taken |= alternate(bench.pairs, [work(name, command)])
    title = f"{TESTS:,} tests of {UNITS:,} units"
    for name in steps:
        yield Row(f"{title}: {name}", "s", taken[name])
        memory = taken[f"{name}, memory"]
        yield Row(f"{title}: {name}, memory", "MB", memory, goal=Goal("below", MEMORY))


def write(root: Path) -> None:
    """Write the data file, in a process of its own; print the seconds that this alone takes."""
    from pytest_kindcov.covdata import store

    (program,) = store.read([root / ".kindcov/covdata"]).programs
    service = large.Service(program.meta.units[: program.meta.function_units[1]], UNITS)
    begin = time.perf_counter()
    for _ in service.vectors(TESTS):
        pass
    making = time.perf_counter() - begin
    begin = time.perf_counter()
    contexts.write(root / ".kindcov", root, {large.HASH: service.meta}, service.vectors(TESTS))
    print(time.perf_counter() - begin - making)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
