"""What a reading of running programs' counters costs.

As root: `python bench/live.py [ROUNDS [local|docker|podman ...]]`.

Medians in ms, with the 99th percentile, for one process and for fifty, by the reader in perl and
the one in bash: through a plain shell of this machine, and, when KINDCOV_BENCH_NODE and
KINDCOV_ENGINE name a running node container, through the engine in that. The processes are real Go
programs with a region of 126 KB, as a large Kubernetes controller has it, or a small one. They are
put into a cgroup that is named as a container is, so that the reader finds them in the real /proc.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.cluster.engine import Engine
from pytest_kindcov.cluster.node import Node
from pytest_kindcov.cluster.shell import Shell
from pytest_kindcov.harvest.live import NodeReader, readings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTAINER = "be9c" * 16
MANY = 50
# Milliseconds; by reader, processes, and how many of them changed.
GOALS = {
    ("perl", 1, 0): 0.5,
    ("perl", 1, 1): 0.5,
    ("perl", MANY, 0): 5.0,
    ("perl", MANY, 1): 5.0,
    ("perl", MANY, MANY): 60.0,
    ("bash", 1, 0): 3.0,
    ("bash", 1, 1): 3.0,
}
MAIN = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func tick() {}

func main() {
	ticks := make(chan os.Signal, 1)
	signal.Notify(ticks, syscall.SIGUSR1)
	for range ticks {
		tick()
		if len(All) > 1<<20 {
			All[0](1)
		}
	}
}
"""
# 24 bytes of counters each.
FUNCTION = "func f%d(n int) int {\n\tif n > 0 {\n\t\treturn 1\n\t}\n\treturn 2\n}\n\n"
FUNCTIONS = {"small": 0, "126 KB": 5200}
CGROUP = """
set -e
base=/sys/fs/cgroup; [ -e $base/cgroup.procs ] || base=$base/pids
"""
START = (
    CGROUP
    + """
mkdir -p "$base/$1"
for ((i = 0; i < $3; i++)); do
  GOCOVERDIR= setsid "$2" < /dev/null > /dev/null 2>&1 &
  echo $! > "$base/$1/cgroup.procs"
  echo $!
done
"""
)
STOP = CGROUP + 'shift; kill "$@"; sleep 0.2; rmdir "$base/$0"'
PUT = 'cat > "$1" && chmod 0755 "$1"'
# Without a new process on the node: readings would look what it is. Ends when its input does.
TICK = 'until read -r -t "$0" || (($? < 129)); do kill -USR1 "$@"; done'
ECHO = r"while read -r; do printf '\0\0\0\0'; done"
STARTS = r"while read -r; do dd if=/dev/null status=none; printf '\0\0\0\0'; done"
# Seconds between readings: after a pause one finds all asleep, the engine's processes on the way to
# the node as well.
BETWEEN, PAUSE = 0.002, 0.2
RESTED = 50  # readings


class Local(Engine):
    """The machine that this runs on."""

    def exec_args(self, node: str, command: Sequence[str]) -> list[str]:
        """The command itself."""
        del node
        return list(command)


class WithoutPerl(Engine):
    """An engine whose nodes have no perl."""

    def exec_args(self, node: str, command: Sequence[str]) -> list[str]:
        """The command, with a perl before the real one that does not work."""
        args = ["env", "PERL5OPT=-Mno::such::module", *command]
        return args if self.name == "local" else super().exec_args(node, args)


def build(directory: Path, functions: int) -> Path:
    """The program, with so many functions beside main."""
    directory.mkdir()
    (directory / "go.mod").write_text("module example.com/bench\n\ngo 1.21\n")
    text = MAIN + "\n" + "".join(FUNCTION % number for number in range(functions))
    # What nobody refers to is not linked.
    text += f"var All = []func(int) int{{{', '.join(f'f{n}' for n in range(functions))}}}\n"
    (directory / "main.go").write_text(text)
    command = ["go", "build", "-cover", "-covermode=count", "-o", "program", "."]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    subprocess.run(command, cwd=directory, env=environment, check=True)
    return directory / "program"


@contextlib.contextmanager
def counting(node: Node, pids: Sequence[str]) -> Iterator[None]:
    """Let these processes count all the time."""
    pause = "0.001" if len(pids) == 1 else "0.02"
    ticker = subprocess.Popen(
        node.engine.exec_args(node.name, ["bash", "-c", TICK, pause, *pids]),
        stdin=subprocess.PIPE,
    )
    assert ticker.stdin is not None
    try:
        time.sleep(0.5)
        yield
    finally:
        ticker.stdin.close()
        ticker.wait(10)


def measure(reader: NodeReader, rounds: int, changed: int, pause: float) -> float:
    """The median of readings that see so many processes changed; printed with the p99."""
    taken: list[float] = []
    for _ in range(20 * rounds):
        time.sleep(pause)
        begin = time.perf_counter()
        ((reading,),) = readings([reader])
        spent = time.perf_counter() - begin
        assert reading.error is None, reading.error
        # On a machine with clusters of its own others count as well.
        own = [process for process in reading.changed if process.container == CONTAINER]
        if len(own) == changed:
            taken.append(1000 * spent)
        if len(taken) == rounds:
            break
    assert len(taken) > rounds / 2, f"{len(taken)} of {rounds} saw {changed} changed"
    middle = float(np.median(taken))
    print(f"{middle:8.2f} {np.percentile(taken, 99):8.2f}", end="")
    return middle


def echo(node: Node, rounds: int, pause: float, script: str) -> None:
    """The least that any request takes: one that is answered without looking at anything."""
    shell = Shell(node, ["bash", "-c", script])
    shell.ask(b"\n", 10)
    taken = []
    for _ in range(rounds):
        time.sleep(pause)
        begin = time.perf_counter()
        shell.ask(b"\n", 10)
        taken.append(1000 * (time.perf_counter() - begin))
    shell.close()
    print(f"{np.median(taken):8.2f} {np.percentile(taken, 99):8.2f}")


def bench(place: str, nodes: dict[str, Node], programs: dict[str, Path], rounds: int) -> None:
    """One place, all readers, programs, and numbers of processes."""
    node = nodes["perl"]
    for pause in (0.0, BETWEEN, PAUSE):
        for what, script in (("", ECHO), (" for which bash starts dd", STARTS)):
            print(f"{place:6} an empty request{what}{_after(pause)}: ", end="")
            echo(node, RESTED if pause else rounds, pause, script)
    for size, program in programs.items():
        path = f"/tmp/kindcov-bench-{program.parent.name}"  # noqa: S108
        node.run(["bash", "-c", PUT, "kindcov", path], stdin=program.read_bytes())
        for count in (1, MANY):
            pids = node.script(START, CONTAINER, path, str(count)).text.split()
            time.sleep(0.5)
            try:
                for name, own in nodes.items():
                    reader = NodeReader(own)
                    ((first,),) = readings([reader])
                    started = [one for one in first.started if one.container == CONTAINER]
                    assert len(started) == count, (first, reader.problems)
                    rows = [(0, 0.0), (1, BETWEEN), (1, PAUSE)]
                    rows += [(count, BETWEEN * 20)] if count > 1 else []
                    for changed, pause in rows:
                        print(
                            f"{place:6} {name} {size:6}, {count:2} processes, {changed:2} changed"
                            f"{_after(pause)}: ",
                            end="",
                        )
                        few = rounds if not changed else RESTED
                        with (
                            counting(node, pids[:changed]) if changed else contextlib.nullcontext()
                        ):
                            middle = measure(reader, few, changed, pause)
                        goal = GOALS.get((name, count, changed))
                        verdict = "" if goal is None else f"  goal {goal:g}"
                        print(verdict + ("" if goal is None or middle <= goal else ": MISS"))
                    reader.close()
            finally:
                node.run(["bash", "-c", STOP, CONTAINER, "kindcov", *pids])
        node.run(["rm", "-f", path])


def _after(pause: float) -> str:
    return f" after {1000 * pause:.0f} ms" if pause else ""


def main() -> None:
    """Print a line for each figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    places = {
        "local": {
            "perl": Node("local", Local("local")),
            "bash": Node("local", WithoutPerl("local")),
        }
    }
    name, engine = os.environ.get("KINDCOV_BENCH_NODE"), os.environ.get("KINDCOV_ENGINE")
    if name and engine:
        places[engine] = {
            "perl": Node(name, Engine(engine)),
            "bash": Node(name, WithoutPerl(engine)),
        }
    with tempfile.TemporaryDirectory() as directory:
        programs = {
            size: build(Path(directory, str(functions)), functions)
            for size, functions in FUNCTIONS.items()
        }
        print("median and p99 in ms")
        for place, nodes in places.items():
            if len(sys.argv) > 2 and place not in sys.argv[2:]:
                continue
            bench(place, nodes, programs, rounds)


if __name__ == "__main__":
    main()
