"""Consecutive random runs, by seed: `python bench/soak.py [RUNS [FIRST_SEED]]`; default 200.

Each has other workers, faults and timing. None may leave anything, or say anything of what ran that
its journal does not bear out. All share one cluster, under the engine that KINDCOV_ENGINE names.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import faulttable
import randomrun
from faulttable import Cluster
from harness import Runner, TestEngine


def main(runs: int, first: int) -> int:
    """Run them, and give the exit code: 1 if anything was wrong with any."""
    name = os.environ.get("KINDCOV_ENGINE", "podman")
    kind = os.environ.get("KINDCOV_KIND_BIN", "kind")
    image = os.environ["KINDCOV_NODE_IMAGE"]
    env = {**os.environ, "KINDCOV_ENGINE": name, "KIND_EXPERIMENTAL_PROVIDER": name}
    engine = TestEngine(name, name, env)
    cluster = Cluster(f"kindcov-soak-{os.getpid()}", engine)
    with tempfile.TemporaryDirectory(prefix="kindcov-soak-") as scratch:
        words = ["--name", cluster.name, "--kubeconfig", str(Path(scratch, "kubeconfig"))]
        create = [kind, "create", "cluster", *words, "--image", image, "--wait", "60s"]

        def make() -> tuple[Runner, Path]:
            place = Path(tempfile.mkdtemp(dir=scratch))
            return Runner.within(place, engine, image, kind), place / "repository"

        try:
            subprocess.run(create, env=env, timeout=300, check=True)
            objects = tuple(cluster.exec(*faulttable.OBJECTS).split())
            cluster = dataclasses.replace(cluster, objects=objects)
            failed = randomrun.soak(range(first, first + runs), make, cluster)
        finally:
            subprocess.run([kind, "delete", "cluster", *words], env=env, timeout=120, check=True)
    print(f"{runs} runs, {len(failed)} wrong: {sorted(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    sys.exit(main(*[*given, *(200, 1)[len(given) :]]))
