"""Coverage files into a text profile, against `go tool covdata textfmt`: 1, 100 and 1,001 files.

The files are those of 1,001 processes of one real program, gofmt with the standard library, each
with source files of its own: 24 MB. Whole processes are measured, interpreter start included: `go
tool covdata` as one calls it, and `kindcov report`. To show the limits: Go's program alone, without
what the go command does before; Python that does nothing, Python that imports numpy, a script that
uses the library alone (no command line, no sources looked for); all that the command does in a
process that has started; and the least that numpy needs for the bytes of the files. Then how long
and how large it is to load meta data of 100,000 units.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import hand
import large
import numpy as np
from pairs import Goal, Row, alternate

from pytest_kindcov.covdata import meta, profile, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machine import Bench

PROCESSES = 1001
COUNTS = (1, 100, PROCESSES)
INPUTS = 8  # source files of each process
UNITS = 100_000
LIBRARY = """
import sys
from pytest_kindcov.covdata import profile, store
open(sys.argv[2], "wb").write(profile.write(store.read([sys.argv[1]]).profile()))
"""
GO = "go tool covdata textfmt"
MILLISECONDS, TIMES = 50.0, 10  # of meta data with 100,000 units: to load, and of the file's size


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    data = record(bench.directory("covdata"))
    for count in COUNTS:
        yield from _compare(bench, some(data, count), count)
    yield from _loading(bench)


def record(directory: Path) -> Path:
    """Run the program, and give back the directory with its files."""
    source = Path(hand.call(["go", "env", "GOROOT"]).strip()) / "src"
    program = directory / "gofmt"
    build = ["go", "build", "-cover", "-covermode=atomic", "-coverpkg=std,cmd/gofmt", "-o"]
    hand.call([*build, program, "."], source / "cmd" / "gofmt")
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
            timeout=60,
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


def _compare(bench: Bench, data: Path, count: int) -> Iterator[Row]:
    """One number of files."""
    tool = hand.call(["go", "tool", "-n", "covdata"]).strip()
    go, own = data.parent / "go.out", data.parent / "own.out"
    text = [f"-i={data}", f"-o={go}"]
    kindcov = [sys.executable, "-m", "pytest_kindcov", "report", str(data), "--report", f"go:{own}"]
    commands = {
        GO: ["go", "tool", "covdata", "textfmt", *text],
        "kindcov report": kindcov,
        "covdata alone": [tool, "textfmt", *text],
        "python": [sys.executable, "-c", "pass"],
        "python with numpy": [sys.executable, "-c", "import numpy"],
        "the library": [sys.executable, "-c", LIBRARY, str(data), str(own)],
    }
    env = environment(data.parent)

    def timed(name: str, work: Callable[[], object]) -> Callable[[], dict[str, float]]:
        def measured() -> dict[str, float]:
            begin = time.perf_counter()
            work()
            return {name: 1000 * (time.perf_counter() - begin)}

        return measured

    def process(name: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            commands[name],
            check=True,
            env=env,
            cwd=data.parent,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    works = [timed(name, process(name)) for name in commands]
    works += [
        timed("in process", lambda: in_process(data)),
        timed("the least", lambda: least(data)),
    ]
    for work in works:
        work()
    if sorted(go.read_bytes().splitlines()) != sorted(own.read_bytes().splitlines()):
        raise RuntimeError("the profiles differ")
    taken = alternate(bench.pairs, works)
    goals = {"kindcov report": Goal("at most", 1.0)}
    for name, values in taken.items():
        if name != GO:
            figure = f"profile of {count:,} file{'s' if count > 1 else ''}: {name}"
            yield Row(figure, "ms", values, GO, taken[GO], goals.get(name))


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


def _loading(bench: Bench) -> Iterator[Row]:
    """How long it takes to load large meta data, and its peak of memory."""
    service = large.Service(large.sample(bench.directory("sample")), UNITS)
    data = meta.write(service.meta)
    taken = []
    for _ in range(4 * bench.pairs):
        begin = time.perf_counter()
        found = meta.read(data)
        taken.append(1000 * (time.perf_counter() - begin))
    assert len(found) >= UNITS
    tracemalloc.start()
    meta.read(data)
    peak = (tracemalloc.get_traced_memory()[1] + len(data)) / 1e6
    tracemalloc.stop()
    figure = f"meta data of {UNITS:,} units, read"
    yield Row(figure, "ms", tuple(taken), goal=Goal("median", MILLISECONDS))
    limit = Goal("below", round(TIMES * len(data) / 1e6, 1))
    yield Row(f"{figure}: memory, file included", "MB", (peak,), goal=limit)
