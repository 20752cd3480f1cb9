"""What the plugin costs where it is not used: `python bench/idle.py [ROUNDS]`.

The import of the plugin, of pytest-kind's plugin (a dependency, which pytest loads by itself), and
of pytest with xdist, each in a new process with bytecode at hand, as an installed package has it.
The least and the median of all rounds, in milliseconds, and what part of pytest's own it is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORTS = """
import json, time
times = [time.perf_counter()]
import pytest, _pytest.pytester, xdist.plugin
times.append(time.perf_counter())
import pytest_kindcov.plugin
times.append(time.perf_counter())
import pytest_kind.plugin
times.append(time.perf_counter())
print(json.dumps([1000 * (b - a) for a, b in zip(times, times[1:])]))
"""
NAMES = ("pytest, xdist", "pytest-kindcov", "pytest-kind")


def main(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", IMPORTS]
        runs = [
            json.loads(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
            for _ in range(rounds + 1)
        ][1:]  # the first one compiles
    columns = dict(zip(NAMES, zip(*runs, strict=True), strict=True))
    pytests = statistics.median(columns[NAMES[0]])
    print(f"{'import':<16}{'least':>10}{'median':>10}{'of pytest':>11}")
    for name, times in columns.items():
        median = statistics.median(times)
        print(f"{name:<16}{min(times):>7.1f} ms{median:>7.1f} ms{median / pytests:>11.2f}")


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
