"""All figures, or those that are named: `script/bench [--pairs N] [--docs] [NAME ...]`.

A table goes to standard output after each figure, with the ratio, its spread and whether the goal
holds; the results, all values included, into a JSON file, in place of earlier ones of that figure.
Exit code 1: a goal is missed, or a figure could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import page
from machine import MEMORY, Bench
from pairs import ENOUGH, Goal, Results, Row, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Curve

FIGURES = {
    "covdata": "reading Go's coverage files",
    "reports": "reports of 100,000 units, against converters",
    "contexts": "1,000 tests of 100,000 units: what the plugin alone has",
    "start": "start to first test, new cluster",
    "kept": "start to first test, kept cluster",
    "end": "end of the last test to reports written",
    "attribution": "who ran what, against a restart for each test",
    "snapshot": "all counters while services run, against an HTTP endpoint",
    "growth": "what grows with pods, nodes, tests, units",
}
"""By name of the module: its `rows(bench)` yields what was found.

Those that need no cluster come first: one that idles disturbs.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=__doc__.partition("\n")[0] if __doc__ else "",
        epilog="; ".join(f"{name}: {what}" for name, what in FIGURES.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures; none: all")
    parser.add_argument(
        "--pairs", type=int, default=ENOUGH, help=f"of each figure; under {ENOUGH} it is a trial"
    )
    parser.add_argument(
        "--json", type=Path, default=Path(".kindcov", "bench.json"), help="the results' file"
    )
    parser.add_argument(
        "--docs", action="store_true", help="results go to docs/performance.json, and to its page"
    )
    parser.add_argument(
        "--page", action="store_true", help="measure nothing: write the page of these results"
    )
    given = parser.parse_args(arguments)
    unknown = set(given.names) - FIGURES.keys()
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}; {', '.join(FIGURES)}")
    if given.pairs < 1:
        parser.error("at least one pair")
    results = Results(page.RESULTS if given.docs or given.page else given.json)
    well = given.page or measure(given.names or list(FIGURES), given.pairs, results)
    if given.docs or given.page:
        page.write(results)
    return 0 if well else 1


def measure(names: Sequence[str], pairs: int, results: Results) -> bool:
    """Measure figures one after the other, print and keep each; give whether all goals hold."""
    well = True
    with tempfile.TemporaryDirectory(prefix="kindcov-bench-") as scratch:
        bench = Bench(pairs, Path(scratch))
        machine = bench.describe()
        try:
            for name in names:
                begin = time.monotonic()
                bench.say(f"{name}: {FIGURES[name]}")
                bench.peaks.clear()
                try:
                    found = list(importlib.import_module(name).rows(bench))
                except Exception:  # the other figures are to be had all the same
                    traceback.print_exc()
                    well = False
                    continue
                if bench.peaks:
                    goal = Goal("below", MEMORY)
                    found.append(
                        Row("memory of pytest, most of all runs", "MB", (*bench.peaks,), goal=goal)
                    )
                bench.say(f"{name}: {time.monotonic() - begin:.0f} s")
                results.put(name, pairs, machine, found)
                well = show(name, found) and well
        finally:
            bench.close()
    return well


def show(name: str, found: Sequence[Row | Curve]) -> bool:
    """Print a table; give whether no goal in it is missed."""
    print(f"\n## {name}\n\n{table(found)}", flush=True)
    return all(each.holds is not False for each in found)


if __name__ == "__main__":
    # As Ctrl-C: clusters are deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
