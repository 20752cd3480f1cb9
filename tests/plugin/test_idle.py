"""What the plugin costs in a repository that does not use it: little time, no output, no clash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.options import OPTIONS

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
# Imported when they are used. pytest-kind, a dependency with a plugin of its own, imports yaml.
HEAVY = {"coverage", "kubernetes", "multiprocessing", "numpy", "python_on_whales", "yaml"}
# Of the time that pytest itself and xdist take to import; bench/idle.py measures it.
MOST = 0.25
ROUNDS = 7
IMPORTS = """
import json, sys, time
begin = time.perf_counter()
import pytest, _pytest.pytester, xdist.plugin
between = time.perf_counter()
import pytest_kindcov.plugin
end = time.perf_counter()
print(json.dumps([between - begin, end - between, sorted(sys.modules)]))
"""


def imported(cache: Path) -> tuple[float, float, set[str]]:
    """Seconds for pytest and for the plugin, and all modules; in a new process.

    Args:
        cache: of bytecode, which an installed package has.

    """
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    theirs, ours, modules = json.loads(done.stdout)
    return theirs, ours, set(modules)


def test_import_is_light(tmp_path: Path) -> None:
    runs = [imported(tmp_path) for _ in range(ROUNDS)]
    assert not runs[0][2] & HEAVY
    # The least of several: what else the machine does adds to some.
    assert min(run[1] for run in runs) < MOST * min(run[0] for run in runs)


def test_whole_run_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        f"""
        import sys

        def pytest_unconfigure():
            print("heavy:", sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
        """
    )
    pytester.makepyfile("def test_one():\n    pass\n")
    others = ["-p", "no:pytest-kind", "-p", "no:anyio", "-p", "no:hypothesispytest"]
    result = pytester.runpytest_subprocess(*others, "-p", "no:xdist")
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(["heavy: []"])


def test_output_is_as_without_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one():\n    pass\ndef test_two():\n    assert False\n")
    with_it, without = (
        [
            re.sub(r"in \d+\.\d+s", "", line).strip("= ")
            for line in pytester.runpytest_subprocess(*args).outlines
            if not line.startswith("plugins: ")
        ]
        for args in ([], ["-p", "no:kindcov"])
    )
    assert with_it == without
    assert not list(pytester.path.glob(".kindcov*"))


def test_names_can_be_told_from_others() -> None:
    for option in OPTIONS:
        assert re.match(r"--(no-)?kind-coverage-", option.flag)
        assert option.ini.startswith("kindcov_")
        assert option.env.startswith("KINDCOV_")
