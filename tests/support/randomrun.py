"""One seeded random run: workers, faults and timing; what it may not do is lie or leave anything.

The tests of the run keep a journal of what they sent, what was answered and what they broke. From
it follows what the total has at least and at most, and the exit code.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import faulttable
from faulttable import Cluster, Result, conftest, deployment

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Runner

SLOTS = ("a", "b", "c")
# What a killed program ran so shortly before its end may be missing. The rows of the table hold
# 0.3 s; here several workers and faults share two processors.
UNSEEN = 1.0
TESTS = """
import json, os, random, signal, subprocess, time
from pathlib import Path
import pytest
from cluster import get

PLAN = json.loads(Path(__file__).with_name("plan.json").read_text())

def note(*what):
    with Path(__file__).with_name("journal").open("a") as journal:
        journal.write(json.dumps([time.time(), *what]) + "\\n")

def send(service, slot):
    note("sent", slot)
    try:
        get(service, f"hit/{slot}")
    except OSError:
        return
    note("answered", slot)

def fault(node, service, slot, kind):
    if kind == "crash":  # of the worker itself
        os.kill(os.getpid(), signal.SIGKILL)
    note("before", slot, kind)
    try:
        if kind in ("panic", "exit"):
            get(service, f"{kind}/")
        elif kind == "delete":
            (pod,) = node.pods(slot)
            node.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        elif kind == "kill":
            node.kill(slot)
    except (OSError, ValueError, AssertionError, subprocess.SubprocessError) as error:
        refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
        if kind in ("delete", "kill") or refused:
            return  # there was nothing to be broken just then
    note("broke", slot, kind)

@pytest.mark.parametrize("number", range(len(PLAN)))
def test_it(number, a, b, c, node):
    for slot, times, pause, kind in PLAN[number]:
        service = {"a": a, "b": b, "c": c}[slot]
        for _ in range(times):
            send(service, slot)
        time.sleep(pause)
        if kind:
            fault(node, service, slot, kind)
"""


def plan(seed: int) -> dict[str, Any]:
    """What a run is to do, by its seed."""
    chance = random.Random(seed)
    workers = chance.choice([0, 0, 2, 3])
    kinds = ["", "", "", "", "panic", "exit", "delete", "kill"]
    steps = [
        [
            [
                chance.choice(SLOTS),
                chance.randint(1, 6),
                chance.choice([0.0, 0.05, 0.4]),
                chance.choice(kinds),
            ]
            for _ in range(chance.randint(1, 3))
        ]
        for _ in range(chance.randint(2, 6))
    ]
    if workers and chance.random() < 0.3:
        steps.append([["a", 1, 0.0, "crash"]])
    return {
        "workers": workers,
        "steps": steps,
        "ends": {slot: chance.choice(["", "", "deaf", "ignored", "slow"]) for slot in SLOTS},
        "allow": chance.random() < 0.5,
        "interrupt": chance.uniform(2, 12) if chance.random() < 0.25 else 0.0,
    }


def once(seed: int, runner: Runner, place: Path, cluster: Cluster) -> list[str]:
    """One run.

    Args:
        seed: of its plan.
        runner: with directories of its own.
        place: of the repository.
        cluster: that is used.

    Returns:
        What was wrong.

    """
    todo = plan(seed)
    manifests = {
        f"{slot}.yaml": deployment(
            slot,
            container={"env": [{"name": "TERM_IS", "value": todo["ends"][slot]}]},
            pod={"terminationGracePeriodSeconds": 2},
        )
        for slot in SLOTS
    }
    files = {**manifests, "plan.json": json.dumps(todo["steps"])}
    where = faulttable.repository(place, conftest(*SLOTS), TESTS, files)
    args = ["-n", str(todo["workers"])] if todo["workers"] else []
    args += ["-o", "kindcov_allow=killed overran"] if todo["allow"] else []
    stop = threading.Timer(todo["interrupt"], lambda: _interrupt(runner))
    if todo["interrupt"]:
        stop.start()
    with contextlib.redirect_stdout(io.StringIO()):  # it is beside the repository, as pytest.log
        result = faulttable.run(runner, where, *args, cluster=cluster)
    stop.cancel()
    return [*result.left, *judge(todo, result)]


def _interrupt(runner: Runner) -> None:
    for pid in runner.started[-1:]:
        subprocess.run(["kill", "-INT", str(pid)], check=False)


def judge(todo: dict[str, Any], result: Result) -> list[str]:
    """Where the total or the exit code is not what the journal says."""
    journal = result.repository / "journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    entries = [json.loads(line) for line in lines]
    counts = result.counts()
    wrong = []
    for slot in SLOTS:
        mine = [entry for entry in entries if entry[2] == slot]
        sent = [when for when, what, *_ in mine if what == "sent"]
        answered = [when for when, what, *_ in mine if what == "answered"]
        broken = [
            (when, _struck(mine, when, more[1]))
            for when, what, *more in mine
            if what == "before" and _hard(more[1], todo["ends"][slot])
        ]
        sure = [
            t for t in answered if not any(begin - UNSEEN < t < end + 0.1 for begin, end in broken)
        ]
        count = counts.get(slot, 0)
        if not len(sure) <= count <= len(sent):
            wrong.append(f"{slot}: {count} in the total, {len(sure)} to {len(sent)} were run")
    if counts.get("never"):
        wrong.append("a line is in the total that nobody ran")
    interrupted = result.code == 2 and todo["interrupt"]
    if not interrupted and not wrong:
        wrong += _code(todo, entries, result)
    return wrong


def _struck(entries: list[list[Any]], begin: float, kind: str) -> float:
    """Until when a fault struck: the command that kills was seen to take two seconds."""
    ends = [when for when, what, *more in entries if what == "broke" and more[1] == kind]
    return min((when for when in ends if when >= begin), default=begin)


def _hard(kind: str, ends: str) -> bool:
    """Whether a fault ends a program without its exit code."""
    return kind in ("panic", "kill") or (kind == "delete" and ends == "deaf")


def _code(todo: dict[str, Any], entries: list[list[Any]], result: Result) -> list[str]:
    crashed = any(step[3] == "crash" for steps in todo["steps"] for step in steps)
    broke = [
        (when, more[1])
        for when, what, *more in entries
        if what == "broke" and _hard(more[1], todo["ends"][more[0]])
    ]
    # A pod that was deleted in the end may run until after the last reading: nothing is lost then.
    sure = [when for when, kind in broke if kind != "delete" or when < entries[-1][0] - UNSEEN]
    # At the harvest, or when its pod was deleted.
    outlives = any(end in ("ignored", "slow") for end in todo["ends"].values())
    must = crashed or (bool(sure or outlives) and not todo["allow"])
    may = must or (bool(broke) and not todo["allow"])
    if result.code in (must, may):
        return []
    return [f"exit code {result.code}, not {int(must)}"]


def soak(
    seeds: range, make: Any, cluster: Cluster, tell: Any = print, limit: float = float("inf")
) -> dict[int, list[str]]:
    """Run after run.

    Args:
        seeds: one for each.
        make: gives a runner and the place of its repository.
        cluster: that all use.
        tell: prints a line.
        limit: seconds after which no other begins.

    Returns:
        By seed what was wrong, of those in which anything was.

    """
    begin = time.monotonic()
    failed: dict[int, list[str]] = {}
    for seed in seeds:
        if time.monotonic() - begin > limit:
            break
        runner, place = make()
        wrong = once(seed, runner, place, cluster)
        if wrong:
            failed[seed] = wrong
        tell(f"seed {seed}: {'; '.join(wrong) or 'ok'} ({time.monotonic() - begin:.0f} s)")
    return failed
