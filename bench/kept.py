"""Time until the first test on a kept cluster, by us and by hand: `python bench/kept.py [ROUNDS]`.

Both on the same kept cluster of this one run, in turns, under the engine that KINDCOV_ENGINE names,
with a service that did not change. Ours: `pytest --kind-coverage --kind-coverage-keep=always` until
its first test begins, with new pods that count from zero. By hand: kubectl apply, rollout restart
(else the counters are those of before), rollout status, port-forward until its port opens, pytest
until its first test begins; the image is on the node already, and nothing is built.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[1] / "examples" / "orders"
PLUGIN = """
import os, time
def pytest_runtest_call(item):
    path = os.environ["FIRST_TEST"]
    if not os.path.exists(path):
        open(path, "w").write(str(time.time()))
"""
PORT = 18080


def until_first_test(directory: Path, arguments: list[str]) -> tuple[float, str]:
    """When pytest's first test began, and pytest's output."""
    stamp = directory / "first"
    stamp.unlink(missing_ok=True)
    env = {**os.environ, "FIRST_TEST": str(stamp), "PYTHONPATH": str(directory)}
    command = [sys.executable, "-m", "pytest", "-p", "firsttest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=directory / "orders",
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return float(stamp.read_text()), done.stdout


def ours(directory: Path) -> tuple[float, str]:
    """Seconds from the start of pytest to its first test, and its output."""
    begin = time.time()
    first, output = until_first_test(
        directory, ["--kind-coverage", "--kind-coverage-keep=always", "tests"]
    )
    return first - begin, output


def by_hand(directory: Path, *, restart: bool) -> float:
    """The same by the commands that one would type."""
    kubectl = ["kubectl", "--kubeconfig", str(directory / "kubeconfig"), "-n", "orders"]

    def call(*words: str) -> None:
        subprocess.run([*kubectl, *words], check=True, capture_output=True, timeout=120)

    begin = time.time()
    call("apply", "--server-side", "--force-conflicts", "-f", str(directory / "orders/deploy"))
    if restart:
        call("rollout", "restart", "deployment/orders")
    call("rollout", "status", "deployment/orders", "--timeout=120s")
    with forwarded(kubectl):
        first, _ = until_first_test(directory, ["-p", "no:kindcov", str(directory / "plain")])
    return first - begin


@contextlib.contextmanager
def forwarded(kubectl: list[str]) -> Iterator[None]:
    """A port-forward whose port is open."""
    command = [*kubectl, "port-forward", "service/orders", f"{PORT}:8080"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
                    break
                time.sleep(0.01)
            yield
        finally:
            process.kill()


def main() -> None:
    """Measure in turns and print the medians and their ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    engine = os.environ.get("KINDCOV_ENGINE", "podman")
    kind = [os.environ.get("KINDCOV_KIND_BIN", "kind")]
    env = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        shutil.copytree(EXAMPLE, directory / "orders")
        (directory / "firsttest.py").write_text(PLUGIN)
        (directory / "plain").mkdir()
        (directory / "plain/test_plain.py").write_text("def test(): pass\n")
        _, output = ours(directory)
        named = re.search(r"cluster (\S+) was kept", output)
        assert named is not None, output
        name = ["--name", named[1]]
        try:
            config = [*kind, "export", "kubeconfig", *name, "--kubeconfig"]
            export = [*config, str(directory / "kubeconfig")]
            subprocess.run(export, env=env, check=True, capture_output=True, timeout=60)
            times: dict[str, list[float]] = {"ours": [], "by hand": [], "by hand, no restart": []}
            for _ in range(rounds):
                taken, output = ours(directory)
                assert "which was kept" in output, output
                times["ours"].append(taken)
                times["by hand"].append(by_hand(directory, restart=True))
                times["by hand, no restart"].append(by_hand(directory, restart=False))
        finally:
            subprocess.run([*kind, "delete", "cluster", *name], env=env, check=True, timeout=120)
    print(output)
    print(json.dumps({key: [round(each, 2) for each in found] for key, found in times.items()}))
    median = {key: statistics.median(found) for key, found in times.items()}
    print(", ".join(f"{key}: {value:.2f} s" for key, value in median.items()))
    for key in ("by hand", "by hand, no restart"):
        print(f"ours is {median['ours'] / median[key]:.2f} x {key}")


if __name__ == "__main__":
    main()
