"""Coverage files, as ratios to `go tool covdata`: `python bench/covdata.py [ROUNDS]`.

The files are those of 1,001 processes of one real program, gofmt with the standard library, each
with source files of its own: 24 MB. One of them, 100 and all become a text profile. Whole processes
are measured in turns, interpreter start included: `go tool covdata` as one calls it, its program
alone without what the go command does before, and `kindcov report`; and, to show the limits, Python
that does nothing, Python that imports numpy, a script that uses the library alone (no command line,
no sources looked for), and the least that numpy needs for the bytes of the files. Then how long and
how large it is to load meta data of 100,000 units.

Medians and the range; the ratio is the median of the rounds' own. Seconds mean nothing on another
machine, and nothing at all while it does other things: then `cpu`, processor time, says more. A
goal that is missed is printed as a miss.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.covdata import meta, profile, store
from pytest_kindcov.covdata.model import Meta

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 1001
COUNTS = (1, 100, PROCESSES)
INPUTS = 8  # source files of each process
UNITS = 100_000
LIBRARY = """
import sys
from pytest_kindcov.covdata import profile, store
open(sys.argv[2], "wb").write(profile.write(store.read([sys.argv[1]]).profile()))
"""
GO = "go tool covdata"
# How many times as long as Go's tool: goals.
WHOLE, INSIDE = 1.0, 1 / 3
MILLISECONDS, TIMES = 50, 10  # of meta data with 100,000 units: to load, and of the file's size


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that it takes, and seconds of processor time, children included."""

    def cpu() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    before, begin = cpu(), time.perf_counter()
    work()
    return time.perf_counter() - begin, cpu() - before


def record(directory: Path) -> Path:
    """Run the program, and give back the directory with its files."""
    root = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True)
    source = Path(root.stdout.strip()) / "src"
    program = directory / "gofmt"
    build = ["go", "build", "-cover", "-covermode=atomic", "-coverpkg=std,cmd/gofmt", "-o"]
    subprocess.run([*build, program, "."], cwd=source / "cmd" / "gofmt", check=True)
    files = sorted(file for file in source.rglob("*.go") if file.stat().st_size < 100_000)
    chosen = [str(files[n * len(files) // (INPUTS * PROCESSES)]) for n in range(INPUTS * PROCESSES)]
    # Rewriting runs more of the library.
    command = [str(program), "-d", "-s", "-r", "a[b:len(a)] -> a[b:]"]
    target = directory / "all"
    target.mkdir()
    for number in range(PROCESSES):
        subprocess.run(
            [*command, *chosen[number::PROCESSES]],
            env={**os.environ, "GOCOVERDIR": str(target)},
            check=False,
            capture_output=True,
        )
    return target


def some(data: Path, count: int) -> Path:
    """A directory with so many of the counter files."""
    target = data.parent / f"files-{count}"
    target.mkdir()
    counters = sorted(data.glob("covcounters.*"))
    for file in [*data.glob("covmeta.*"), *counters[:: len(counters) // count][:count]]:
        os.link(file, target / file.name)
    return target


def environment(directory: Path) -> dict[str, str]:
    """That of the processes: a package has its bytecode, as when it is installed.

    And numpy has one thread for its linear algebra, which nothing here uses: `kindcov` says so too.
    """
    own = {**os.environ, "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}
    own["OPENBLAS_NUM_THREADS"] = "1"
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return own


def compare(data: Path, count: int, rounds: int) -> None:
    """Measure in turns and print what comes of it."""
    tool = subprocess.run(
        ["go", "tool", "-n", "covdata"], capture_output=True, text=True, check=True
    ).stdout.strip()
    go, own = data.parent / "go.out", data.parent / "own.out"
    text = [f"-i={data}", f"-o={go}"]
    kindcov = [sys.executable, "-m", "pytest_kindcov", "report", str(data), "--report", f"go:{own}"]
    commands = {
        GO: ["go", "tool", "covdata", "textfmt", *text],
        "covdata alone": [tool, "textfmt", *text],
        "kindcov report": kindcov,
        "python": [sys.executable, "-c", "pass"],
        "python, numpy": [sys.executable, "-c", "import numpy"],
        "library": [sys.executable, "-c", LIBRARY, str(data), str(own)],
    }
    env = environment(data.parent)

    def process(name: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            commands[name], check=True, env=env, cwd=data.parent, stdout=subprocess.DEVNULL
        )

    works = {name: process(name) for name in commands}
    works |= {"in process": lambda: in_process(data), "the least": lambda: least(data)}
    for work in works.values():
        work()
    if sorted(go.read_bytes().splitlines()) != sorted(own.read_bytes().splitlines()):
        raise SystemExit("the profiles differ")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(measured(work))
    size = sum(file.stat().st_size for file in data.glob("covcounters.*"))
    print(f"\n{count:,} files, {size / 1e6:.1f} MB, {rounds} rounds\n")
    print(f"| | median ms | range ms | cpu ms | x {GO} | goal |")
    print("|---|---|---|---|---|---|")
    goals = {"kindcov report": WHOLE}
    if count == PROCESSES:
        goals["in process"] = INSIDE
    for name, pairs in taken.items():
        wall = [1e3 * pair[0] for pair in pairs]
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(pairs, taken[GO], strict=True))
        cpu = statistics.median(1e3 * pair[1] for pair in pairs)
        print(
            f"| {name} | {statistics.median(wall):.0f} | {min(wall):.0f}-{max(wall):.0f} "
            f"| {cpu:.0f} | {ratio:.2f} | {verdict(ratio, goals.get(name))} |"
        )


def verdict(value: float, goal: float | None) -> str:
    """`<= 1.00, holds`."""
    if goal is None:
        return ""
    return f"<= {goal:.2f}, {'holds' if value <= goal else 'MISSED'}"


def in_process(data: Path) -> bytes:
    """All that the command does, in a process that has started."""
    whole = store.read([data]).profile()
    assert whole is not None
    return profile.write(whole)


def least(data: Path) -> int:
    """What numpy cannot do without, in one thread: the limit of all that is done in process.

    Each file is read, each byte looked at for whether its number goes on, each number widened, and
    each added to a counter; that here it is the wrong one makes no difference to the time.
    """
    row = np.zeros(1 << 16, np.uint32)
    target = np.arange(1 << 18) & 0xFFFF
    for file in data.iterdir():
        held = np.frombuffer(file.read_bytes(), np.uint8)
        numbers = held[held < 0x80].astype(np.uint32)
        for first in range(0, len(numbers), len(target)):
            part = numbers[first : first + len(target)]
            np.add.at(row, target[: len(part)], part)
    return int(row.sum())


def large(base: Meta) -> bytes:
    """Meta data of a real program, its packages repeated until there are enough units."""
    times = -(-UNITS // len(base))
    units = len(base) * np.arange(times)
    functions = base.functions * np.arange(times)
    strings = len(base.strings) * np.arange(times)

    def tiled(edges: np.ndarray[tuple[int], np.dtype[np.int32]], shift: object) -> object:
        return np.concatenate([[0], (edges[1:] + np.asarray(shift)[:, np.newaxis]).ravel()])

    return meta.write(
        Meta(
            hash=base.hash,
            mode=base.mode,
            granularity=base.granularity,
            packages=base.packages * times,
            package_functions=tiled(base.package_functions, functions),  # type: ignore[arg-type]
            strings=base.strings * times,
            package_strings=tiled(base.package_strings, strings),  # type: ignore[arg-type]
            function_units=tiled(base.function_units, units),  # type: ignore[arg-type]
            function_name=(base.function_name + strings[:, np.newaxis]).ravel(),
            function_file=(base.function_file + strings[:, np.newaxis]).ravel(),
            function_literal=np.tile(base.function_literal, times),
            units=np.tile(base.units, (times, 1)),
        )
    )


def loading(base: Meta, rounds: int) -> None:
    """Print how long it takes to load large meta data, and its peak of memory."""
    data = large(base)
    spent = statistics.median(measured(lambda: meta.read(data))[0] for _ in range(4 * rounds))
    tracemalloc.start()
    found = meta.read(data)
    peak = tracemalloc.get_traced_memory()[1] + len(data)
    tracemalloc.stop()
    taken, times = 1e3 * spent * UNITS / len(found), peak / len(data)
    print(f"\nMeta data of {len(found):,} units, {found.functions:,} functions:")
    print(f"{taken:.0f} ms for 100,000 units, {verdict(taken, MILLISECONDS)};")
    print(
        f"at the peak {times:.1f} x the file's {len(data):,} bytes, file included, "
        f"{verdict(times, TIMES)}"
    )


def main() -> None:
    """Record the files, then measure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as name:
        data = record(Path(name))
        for count in COUNTS:
            compare(some(data, count), count, rounds)
        loading(store.read([data]).programs[0].meta, rounds)


if __name__ == "__main__":
    main()
