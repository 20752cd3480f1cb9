"""What a selection leaves out, held against what the tests do: on real processes of the example."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import edits
import gocover
import numpy as np
import ordersrun
from gocover import Go

from pytest_kindcov import select
from pytest_kindcov.covdata import store
from pytest_kindcov.report import inputs, make, runfile, sources, tree

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# By test: how it ended, what it was answered, and by function how often its blocks ran.
Deeds = dict[str, tuple[list[str], list[str], dict[str, list[int]]]]


@dataclass(frozen=True)
class Recorded:
    """The example as a repository, and the record of a run of all its tests.

    Args:
        root: of the repository; its `.kindcov` is the record.
        scratch: for what runs leave.
        deeds: of all tests.

    """

    root: Path
    scratch: Path
    deeds: Deeds

    def plan(self) -> select.Plan:
        return select.plan(self.root / ".kindcov", self.root, "HEAD", below=self.root)

    def build(self) -> None:
        """Build the service from the tree as it is now."""
        shutil.rmtree(self._now, ignore_errors=True)
        ordersrun.build(self._now, self.root)

    def differ(self, names: Collection[str]) -> list[str]:
        """The tests among some that do otherwise than recorded, with what was built.

        Twice: on a busy machine one may run out of time, whatever was built.
        """
        for _ in range(2):
            if names:
                now = self._now_does(names)
                names = [name for name in names if now.get(name) != self.deeds[name]]
        return list(names)

    def _now_does(self, names: Collection[str]) -> Deeds:
        try:
            return deeds(ordersrun.test(self._now, self.root, sorted(names), passes=False))
        except (ValueError, KeyError):
            return {}  # it does not even start

    @property
    def _now(self) -> Path:
        return self.scratch / "now"


def recorded(directory: Path) -> Recorded:
    """Run all tests, and leave what a run of pytest on a cluster leaves."""
    root = directory / "repository"
    edits.copy(ordersrun.ORDERS, root)
    state, built = tree.record(root, root), sources.record(sources.repository(root))
    ordersrun.build(directory / "run", root)
    run = ordersrun.test(directory / "run", root)
    left = root / ".kindcov"
    left.mkdir()
    (left / ".gitignore").write_text("*\n")
    store.write(store.read(run.data.values()), left / inputs.COVDATA)
    outcomes = run.noted("outcomes")
    runfile.write(
        left,
        make.Run(
            time=1.0,
            title="orders",
            recorded=built,
            data=run.write(left),
            tests={name: " ".join(how) for name, how in outcomes.items()},
            tree=state,
        ),
    )
    return Recorded(root, directory, deeds(run))


def deeds(run: ordersrun.OrdersRun) -> Deeds:
    idle, meta = run.counters[ordersrun.IDLE], run.meta
    answers = run.noted("answers")
    found: Deeds = {}
    for name, how in run.noted("outcomes").items():
        ran: dict[str, list[int]] = {}
        # A test that did not get its service ran nothing.
        counts = run.counters.get(name, idle).astype(np.int64) - idle
        for number in range(meta.functions):
            first, last = meta.function_units[number : number + 2]
            own = counts[first:last].tolist()
            if any(own):
                package = meta.packages[meta.function_package[number]].path
                key = f"{package}.{meta.strings[meta.function_name[number]]}"
                ran[key] = sorted([*ran.get(key, []), *own])
        found[name] = how, answers.get(name, []), ran
    return found


def partly(record: Recorded, directory: Path, package: str) -> None:
    """Let a service that covers only a package leave its files."""
    program = record.scratch / "partly"
    flags = ("-covermode=atomic", f"-coverpkg={package}")
    Go().build(record.root, program, *flags, package="./cmd/orders")
    gocover.run(program, directory, "-h")
