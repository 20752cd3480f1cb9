"""Who ran what, at the size of a large service: `python bench/contexts.py [TESTS] [SHARE]`.

1,000 tests of a service of 100,000 units in 1,500 files and 300 packages. Each test runs the 1 % of
all functions that every request passes, and SHARE (0.1 unless given) of the packages, half of their
functions. Every step runs in a process of its own, as it would: the data are written, `coverage
report` and `kindcov why` answer; seconds and the peak of resident memory of each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata.model import Granularity, Meta, Mode, Package
from pytest_kindcov.report import contexts, datawrite

if TYPE_CHECKING:
    import resource
    from collections.abc import Iterator

    import numpy.typing as npt

PACKAGES, FILES, FUNCTIONS, UNITS = 300, 1_500, 20_000, 100_000
EACH = UNITS // FUNCTIONS
HASH = bytes(16)


def service() -> Meta:
    """A program: in every file a function after the other, a unit after the other, 3 lines each."""
    file = np.arange(FUNCTIONS) * FILES // FUNCTIONS
    package = file * PACKAGES // FILES
    order = np.arange(UNITS)
    first = 10 + 3 * (order - np.searchsorted(np.repeat(file, EACH), np.repeat(file, EACH)))
    units = np.stack([first, first * 0 + 2, first + 2, first * 0 + 3, first * 0 + 2], axis=1)
    return Meta(
        hash=HASH,
        mode=Mode.ATOMIC,
        granularity=Granularity.BLOCK,
        packages=tuple(
            Package(f"example.com/m/p{number}", "p", "example.com/m", HASH)
            for number in range(PACKAGES)
        ),
        package_functions=np.searchsorted(package, np.arange(PACKAGES + 1)).astype(np.int32),
        strings=[f"example.com/m/p{n * PACKAGES // FILES}/f{n}.go" for n in range(FILES)],
        package_strings=np.arange(0, FILES + 1, FILES // PACKAGES, dtype=np.int32),
        function_units=np.arange(0, UNITS + 1, EACH, dtype=np.int32),
        function_name=np.zeros(FUNCTIONS, np.int32),
        function_file=file.astype(np.int32),
        function_literal=np.zeros(FUNCTIONS, bool),
        units=units.astype(np.uint32),
    )


def vectors(
    meta: Meta, tests: int, share: float
) -> Iterator[tuple[str, dict[bytes, npt.NDArray[np.int32]]]]:
    """What every test ran."""
    chance = np.random.default_rng(7)
    common = chance.random(FUNCTIONS) < 0.01
    for number in range(tests):
        own = (chance.random(PACKAGES) < share)[meta.function_package]
        ran = common | (own & (chance.random(FUNCTIONS) < 0.5))
        units = np.flatnonzero(np.repeat(ran, EACH)).astype(np.int32)
        name = f"tests/e2e/test_{number % 40}.py::TestSuite{number % 7}::test_{number}[some-value]"
        yield name, {HASH: units}


def write(target: Path, tests: int, share: float) -> None:
    """In a process of its own; says what the program alone takes."""
    meta = service()
    chosen = sum(len(ran[HASH]) for _, ran in vectors(meta, tests, share))
    begin = time.perf_counter()
    for _ in vectors(meta, tests, share):
        pass
    making = time.perf_counter() - begin
    begin = time.perf_counter()
    data = contexts.write(target, target.parent, {HASH: meta}, vectors(meta, tests, share))
    spent = time.perf_counter() - begin - making
    print(
        f"{tests:,} tests ran {chosen / tests:,.0f} of {UNITS:,} units each, {spent:.1f} s; ",
        end="",
    )
    print(f"{data.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Every step in a process of its own."""
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
    if len(sys.argv) > 3:
        write(Path(sys.argv[3]), tests, share)
        return
    with tempfile.TemporaryDirectory() as name:
        target = Path(name, ".kindcov")
        (Path(name) / "go.mod").write_text("module example.com/m\n")
        for number in range(FILES):
            file = Path(name, f"p{number * PACKAGES // FILES}", f"f{number}.go")
            file.parent.mkdir(exist_ok=True)
            file.write_text("package p\n" * 400)
        files = [f"--rcfile={target}/{datawrite.RCFILE}", f"--data-file={target}/.coverage"]
        why = ["-m", "pytest_kindcov", "why", "--data", str(target)]
        steps = {
            "write": [__file__, str(tests), str(share), str(target)],
            "coverage report": ["-m", "coverage", "report", *files],
            "why FILE:LINE": [*why, "f750.go:16"],
            "why TEST": [*why, f"test_{tests // 2}["],
        }
        total = 0.0
        for step, command in steps.items():
            begin = time.perf_counter()
            log = Path(name, "out")
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, *command], cwd=name, stdout=output, env=os.environ
                )
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            spent = time.perf_counter() - begin
            total += spent
            lines = log.read_text().splitlines()
            if process.returncode:
                raise SystemExit(f"{step} failed: {lines}")
            print(f"{step:16} {spent:5.1f} s, {peak(usage):4.0f} MB; {lines[-1][:90]}")
        print(f"{'together':16} {total:5.1f} s")


def peak(usage: resource.struct_rusage) -> float:
    """Largest resident memory, in MB."""
    return usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
