"""Coverage files, as ratios to `go tool covdata`: `python bench/covdata.py [ROUNDS]`.

The files are those of 1,001 processes of one real program, gofmt with the standard library: once
each with source files of its own, once all with the same. Whole processes are measured in turns,
interpreter start included; `go tool covdata` as one calls it, and its program alone, without what
the go command does before. Then what happens in the process, and the least that numpy can do; and
how long and how large it is to load meta data of 100,000 units. Medians; seconds mean nothing on
another machine, ratios do.
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
UNITS = 100_000


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def record(directory: Path) -> list[Path]:
    """Run the program, and give back the two directories with its files."""
    root = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True)
    source = Path(root.stdout.strip()) / "src"
    program = directory / "gofmt"
    build = ["go", "build", "-cover", "-covermode=atomic", "-coverpkg=std,cmd/gofmt", "-o"]
    subprocess.run([*build, program, "."], cwd=source / "cmd" / "gofmt", check=True)
    files = sorted(file for file in source.rglob("*.go") if file.stat().st_size < 40_000)
    own = [files[number * len(files) // (3 * PROCESSES)] for number in range(3 * PROCESSES)]
    found = []
    # Rewriting three files runs more of the library: 26 KB of counters each.
    command = [str(program), "-d", "-s", "-r", "a[b:len(a)] -> a[b:]"]
    for name, inputs in (("different", own), ("same", own[:3] * PROCESSES)):
        target = directory / name
        target.mkdir()
        environment = {**os.environ, "GOCOVERDIR": str(target)}
        for first in range(0, 3 * PROCESSES, 3):
            arguments = [*command, *map(str, inputs[first : first + 3])]
            subprocess.run(arguments, env=environment, check=False, capture_output=True)
        found.append(target)
    return found


def compare(data: Path, rounds: int) -> None:
    """Measure in turns and print the medians and their ratios."""
    tool = subprocess.run(
        ["go", "tool", "-n", "covdata"], capture_output=True, text=True, check=True
    ).stdout.strip()
    go, own = data.parent / "go.out", data.parent / "own.out"
    commands: dict[str, list[str]] = {
        "go tool covdata": ["go", "tool", "covdata", "textfmt", f"-i={data}", f"-o={go}"],
        "covdata alone": [tool, "textfmt", f"-i={data}", f"-o={go}"],
        "kindcov": [sys.executable, "-m", "pytest_kindcov", "report", str(data)],
    }
    commands["kindcov"] += ["--report", f"go:{own}"]
    times: dict[str, list[float]] = {name: [] for name in (*commands, "in process", "the least")}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(lambda c=command: subprocess.run(c, check=True)))  # type: ignore[misc]
        times["in process"].append(seconds(lambda: in_process(data)))
        times["the least"].append(seconds(lambda: least(data)))
    if sorted(go.read_bytes().splitlines()) != sorted(own.read_bytes().splitlines()):
        raise SystemExit("the profiles differ")
    size = sum(file.stat().st_size for file in data.iterdir())
    print(f"{data.name}: {PROCESSES} files, {size / 1e6:.1f} MB")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        one, other = value / medians["go tool covdata"], value / medians["covdata alone"]
        print(f"  {name:16} {value:.3f} s, {one:.2f} x go tool covdata, {other:.2f} x it alone")


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
    spent = statistics.median(seconds(lambda: meta.read(data)) for _ in range(4 * rounds))
    tracemalloc.start()
    found = meta.read(data)
    peak = tracemalloc.get_traced_memory()[1] + len(data)
    tracemalloc.stop()
    units = f"{len(found):,} units, {found.functions:,} functions"
    print(f"meta data of {units}: {spent * 1e5 / len(found) * 1e3:.0f} ms for 100,000 units,")
    print(f"  {peak / len(data):.1f} x the file's {len(data):,} bytes at the peak, file included")


def main() -> None:
    """Record the files, then measure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        for data in record(Path(name)):
            compare(data, rounds)
        loading(store.read([data]).programs[0].meta, rounds)


if __name__ == "__main__":
    main()
