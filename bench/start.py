"""How long until the first test, as a ratio to a bare cluster: `python bench/start.py [ROUNDS]`.

Both are measured in this one run, in turns, under the engine that KINDCOV_ENGINE names: a bare
`kind create cluster` until its node is Ready, and `pytest --kind-coverage` on the example until its
first test begins. The program is built once before, as it is on a developer's machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "orders"
PLUGIN = """
import os, time
def pytest_runtest_call(item):
    path = os.environ["FIRST_TEST"]
    if not os.path.exists(path):
        open(path, "w").write(str(time.time()))
"""


def bare(kind: str, image: str, engine: str, directory: Path) -> float:
    """Seconds for a cluster of kind's own until its node is Ready."""
    env = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine}
    kubeconfig = str(directory / "kubeconfig")
    name = ["--name", "kindcov-bench", "--kubeconfig", kubeconfig]
    begin = time.time()
    try:
        create = [kind, "create", "cluster", *name, *(["--image", image] if image else [])]
        subprocess.run(create, env=env, check=True, capture_output=True, timeout=600)
        while not _ready(engine):
            time.sleep(0.05)
        return time.time() - begin
    finally:
        subprocess.run([kind, "delete", "cluster", *name], env=env, check=True, capture_output=True)


def _ready(engine: str) -> bool:
    command = [
        engine,
        "exec",
        "kindcov-bench-control-plane",
        "kubectl",
        "get",
        "nodes",
        "-o",
        "json",
    ]
    command += ["--kubeconfig", "/etc/kubernetes/admin.conf"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        return False
    (node,) = json.loads(done.stdout)["items"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


def first_test(directory: Path) -> float:
    """Seconds from the start of pytest until its first test begins."""
    (directory / "firsttest.py").write_text(PLUGIN)
    stamp = directory / "first"
    stamp.unlink(missing_ok=True)
    env = {**os.environ, "FIRST_TEST": str(stamp), "PYTHONPATH": str(directory)}
    output = f"--kind-coverage-dir={directory}/out"
    command = [sys.executable, "-m", "pytest", "-p", "firsttest", "-p", "no:cacheprovider"]
    begin = time.time()
    subprocess.run(
        [*command, "-q", "--kind-coverage", output], cwd=EXAMPLE, env=env, check=True, timeout=600
    )
    return float(stamp.read_text()) - begin


def main() -> None:
    """Measure in turns and print the medians and their ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    engine = os.environ.get("KINDCOV_ENGINE", "docker")
    kind = os.environ.get("KINDCOV_KIND_BIN", "kind")
    image = os.environ.get("KINDCOV_NODE_IMAGE", "")
    bares, firsts = [], []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        build = ["go", "build", "-cover", "-covermode=atomic", "-o", os.devnull, "./cmd/orders"]
        subprocess.run(build, cwd=EXAMPLE, check=True, env={**os.environ, "CGO_ENABLED": "0"})
        for number in range(rounds):
            bares.append(bare(kind, image, engine, directory))
            firsts.append(first_test(directory))
            print(f"round {number + 1}: bare {bares[-1]:.1f} s, first test {firsts[-1]:.1f} s")
    one, other = statistics.median(bares), statistics.median(firsts)
    print(f"{engine}: bare {one:.1f} s, first test {other:.1f} s, ratio {other / one:.2f}")


if __name__ == "__main__":
    main()
