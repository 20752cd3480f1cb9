#!/usr/bin/env python3
"""Makes a machine ready, then runs the demo, the checks or the bench, for `script/NAME`.

Needs nothing but Python's standard library. What is there is used as it is; what is missing is
installed; what cannot be done ends in one message that names the remedy, and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from setuplib import dockerd, engines, pythonenv, readers, tools
from setuplib.steps import ROOT, SetupError, foreground, say

if TYPE_CHECKING:
    from collections.abc import Callable

LINT_TIMEOUT = 300.0  # seconds: the type checker's first run without a cache takes 60
TEST_TIMEOUT = 4500.0  # seconds: for all tests with all their clusters on 2 cores
BENCH_TIMEOUT = 4 * 3600.0  # seconds: for all figures with 5 pairs, which take some 2 hours
DEMO_TIMEOUT = 1800.0  # seconds: a cluster, a build and a few tests; 1 minute is usual
FAST_TESTS = ("tests/unit", "tests/plugin")  # those that need no engine
# A cluster that comes up leaves half of two processors idle. In the order of their files: those
# with clusters are first, and the longest. With two clusters at a time on two processors a wait of
# somebody else's (an engine, a browser, a kubelet) may end too early, and a late probe may count
# for a test: what fails is tried again, and named as such.
PARALLEL = ("-n3", "--dist=loadscope", "--no-loadscope-reorder", "--reruns=2", "-v", "-rR")

Phase = tuple[str, list[str | Path], float]


def prepare() -> dict[str, str]:
    """Make the machine ready; give the environment for pytest. Raises SetupError."""
    env = dict(os.environ)
    pythonenv.ensure()
    engine = engines.choose(env)
    engines.check_inotify(engine)
    go = tools.ensure_go()
    kind = tools.ensure_kind(env, go)
    image = tools.ensure_node_image(env, engine, kind, go)
    env["KINDCOV_ENGINE"] = engine.name
    env["KINDCOV_KIND_BIN"] = str(kind)
    env["KINDCOV_NODE_IMAGE"] = image
    return with_path(env, go.directory, kind.parent)


def prepare_tests() -> dict[str, str]:
    """As `prepare`, with what only tests need."""
    readers.ensure()
    env = prepare()
    helm = tools.ensure_helm(env, tools.ensure_go())
    return with_path(env, helm.parent)


def with_path(env: dict[str, str], *directories: Path) -> dict[str, str]:
    """Put `.venv`'s programs first on PATH, then the directories that are not on it yet."""
    old = env.get("PATH", os.defpath).split(os.pathsep)
    new = [str(each) for each in directories if str(each) not in old]
    return {**env, "PATH": os.pathsep.join([str(pythonenv.VENV / "bin"), *new, *old])}


def timed(make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Make the machine ready, and say what was found and how long it took."""
    start = time.monotonic()
    env = make()
    found = ", ".join(
        f"{key.removeprefix('KINDCOV_').lower()} {env[key]}"
        for key in ("KINDCOV_ENGINE", "KINDCOV_KIND_BIN", "KINDCOV_NODE_IMAGE")
    )
    say(f"set-up: {time.monotonic() - start:.1f} s: {found}")
    return env


def demo(arguments: list[str]) -> int:
    """Run the example's tests with coverage; arguments go to pytest. Gives pytest's exit code."""
    env = timed(prepare)
    command: list[str | Path] = [pythonenv.PYTHON, "-m", "pytest", "--kind-coverage", *arguments]
    return foreground(command, ROOT / "examples" / "orders", DEMO_TIMEOUT, env)


def test(arguments: list[str]) -> int:
    """Run the checks; give 0 or 1, or pytest's own exit code where only pytest ran."""
    pytest: list[str | Path] = [pythonenv.PYTHON, "-m", "pytest"]
    fast = arguments[:1] == ["--fast"]
    if arguments and not fast:
        return foreground([*pytest, *arguments], ROOT, TEST_TIMEOUT, timed(prepare_tests))
    binaries = pythonenv.ensure().parent
    phases: list[Phase] = [
        ("ruff check", [binaries / "ruff", "check"], LINT_TIMEOUT),
        ("ruff format", [binaries / "ruff", "format", "--check"], LINT_TIMEOUT),
        ("types", [binaries / "mypy"], LINT_TIMEOUT),
    ]
    env = with_path(dict(os.environ))
    failed = run_phases(phases, env)
    if fast:
        paths = [path for path in FAST_TESTS if (ROOT / path).is_dir()]
        failed += run_phases([("tests", [*pytest, *paths, *arguments[1:]], TEST_TIMEOUT)], env)
    else:
        say("== set-up")
        every = [*pytest, "tests", *PARALLEL, "--durations=20"]
        failed += run_phases([("tests", every, TEST_TIMEOUT)], timed(prepare_tests))
    say(f"== failed: {', '.join(failed)}" if failed else "== all passed")
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """Measure figures, or those that are named. Gives the bench's exit code."""
    script = ROOT / "bench" / "run.py"
    idle = {"-h", "--help", "--page"} & {*arguments}  # these need no engine
    pythonenv.ensure()
    env = with_path(dict(os.environ)) if idle else timed(prepare)
    return foreground([pythonenv.PYTHON, script, *arguments], Path.cwd(), BENCH_TIMEOUT, env)


def screenshot(arguments: list[str]) -> int:
    """Make the README's picture of the HTML report anew, or one elsewhere."""
    pythonenv.ensure()
    readers.ensure(readers.CHROMIUM)
    target = arguments[0] if arguments else ROOT / "docs" / "html-report.png"
    script = ROOT / "tests" / "support" / "screenshot.py"
    env = with_path(dict(os.environ), tools.ensure_go().directory)
    return foreground([pythonenv.PYTHON, script, target], Path.cwd(), DEMO_TIMEOUT, env)


def run_phases(phases: list[Phase], env: dict[str, str]) -> list[str]:
    """Run each, with a header and its time; give the names of those that failed."""
    failed = []
    for name, command, timeout in phases:
        say(f"== {name}")
        start = time.monotonic()
        code = foreground(command, ROOT, timeout, env)
        verdict = "passed" if code == 0 else f"FAILED (exit code {code})"
        say(f"== {name}: {verdict} in {time.monotonic() - start:.1f} s")
        if code != 0:
            failed.append(name)
    return failed


def docker(arguments: list[str]) -> int:
    """Start or stop a docker daemon of our own, or move an image to it."""
    parser = argparse.ArgumentParser(
        prog="script/setup.py docker",
        description="A docker daemon of one's own, for tests where none runs. Needs root.",
    )
    parser.add_argument("action", choices=["start", "stop", "load"])
    parser.add_argument("--state", type=Path, required=True, help="directory for its data")
    parser.add_argument("--json", action="store_true", help="print JSON, not shell lines")
    parser.add_argument("--image", help="load: the image to copy from podman")
    given = parser.parse_args(arguments)
    state = given.state.resolve()
    if given.action == "stop":
        dockerd.stop(state)
    elif given.action == "load":
        if not given.image:
            parser.error("load needs --image")
        dockerd.copy_image(given.image, dockerd.environment(state))
    else:
        own, env = dockerd.start(state)
        if given.json:
            print(json.dumps({"own": own, "env": env}))
        for key, value in () if given.json else env.items():
            print(f"export {key}={shlex.quote(value)}")
    return 0


def main(argv: list[str]) -> int:
    """Run one command; give its exit code, 2 where the set-up cannot go on."""
    commands = {
        "demo": demo,
        "test": test,
        "bench": bench,
        "screenshot": screenshot,
        "docker": docker,
    }
    if not argv or argv[0] not in commands:
        say(f"usage: script/setup.py {{{'|'.join(commands)}}} ...")
        return 2
    # As Ctrl-C: what runs for us is ended with us, not left behind building.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return commands[argv[0]](argv[1:])
    except SetupError as error:
        say(f"\nset-up: {error}")
        return 2
    except OSError as error:  # a full disk, a program that went: the system says which
        say(f"\nset-up: {error}\nRemedy: mend that and run the same command again.")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
