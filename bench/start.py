"""Start to first test on a new cluster, against a bare cluster and against step after step.

The node image is there, and the program was built before, as on a developer's machine. Measured too
is what a bare cluster takes until the service's pod runs in it, with its image there already, and
pytest has started and runs one test.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import hand
from machine import EXAMPLE
from pairs import Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine import Bench

SEQUENCE = """
import os, pathlib, pytest
import hand

@pytest.fixture(scope="session")
def orders(request):
    own, here = pathlib.Path("image").absolute(), pathlib.Path.cwd()
    hand.build(here, own)
    hand.image(os.environ["ENGINE"], own)
    cluster = request.getfixturevalue("kind_cluster")
    hand.load(os.environ["ENGINE"], os.environ["KIND"], cluster.name, own)
    cluster.kubectl("apply", "-f", "deploy/namespace.yaml", "-f", "deploy/")
    cluster.kubectl("-n", "orders", "rollout", "status", "deployment/orders", "--timeout=120s")
    # Without this it forwards ten times, a second each, though the first time was well.
    with cluster.port_forward("service/orders", 8080, "-n", "orders", retries=1) as port:
        yield f"http://127.0.0.1:{port}"
"""
TESTS = """
import urllib.request

def test_it(orders):
    url = getattr(orders, "url", orders)
    assert urllib.request.urlopen(url + "/orders", timeout=10).status == 200
"""


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    ours, sequence = bench.repository(tests=TESTS), bench.repository(SEQUENCE, TESTS)
    built, plain = bench.directory("warm"), bench.directory("plain")
    hand.build(EXAMPLE, built)
    (plain / "test_plain.py").write_text("def test_it():\n    pass\n")
    (plain / "pytest.ini").write_text("[pytest]\n")
    kubectl = str(bench.kubectl)

    def bare() -> dict[str, float]:
        bare, pod = _bare(bench, built)
        begin = time.time()
        alone = bench.pytest(plain, "-p", "no:kindcov").values["first"] - begin
        return {"bare": bare, "least": bare + pod + alone}

    def first_test() -> dict[str, float]:
        begin = time.time()
        return {"ours": bench.pytest(ours, "--kind-coverage").values["first"] - begin}

    def in_sequence() -> dict[str, float]:
        name = f"kindcov-bench-{os.getpid()}-sequence"
        kinds = ["--kind-bin", bench.kind, "--kind-kubectl-bin", kubectl, "--cluster-name", name]
        if bench.image:
            kinds += ["--kind-image", bench.image]
        env = {"ENGINE": bench.engine, "KIND": bench.kind, **bench.kind_env}
        begin = time.time()
        try:
            notes = bench.pytest(sequence, "-p", "no:kindcov", *kinds, **env)
        finally:
            bench.delete(name)
            hand.forget(bench.engine)
        return {"sequence": notes.values["first"] - begin}

    taken = alternate(bench.pairs, [bare, first_test, in_sequence])
    figure = "start to first test, new cluster"
    yield Row(
        figure, "s", taken["ours"], "a bare cluster, Ready", taken["bare"], Goal("at most", 1.15)
    )
    yield Row(figure, "s", taken["ours"], "that, then a pod, and pytest's start", taken["least"])
    yield Row(
        figure,
        "s",
        taken["ours"],
        "pytest-kind's fixture: build, create, load, deploy",
        taken["sequence"],
        Goal("faster", 1.3),
    )


def _bare(bench: Bench, built: Path) -> tuple[float, float]:
    """Seconds for a cluster of kind's own until its node is Ready, and then for a pod."""
    name = f"kindcov-bench-{os.getpid()}-bare"
    kubeconfig = bench.directory("bare") / "kubeconfig"
    words = ["--name", name, "--kubeconfig", str(kubeconfig)]
    begin = time.time()
    try:
        hand.call([bench.kind, "create", "cluster", *words, *bench.image_words], env=bench.kind_env)
        while not _ready(bench.kubectl, kubeconfig):
            time.sleep(0.05)
        bare = time.time() - begin
        hand.image(bench.engine, built)
        hand.load(bench.engine, bench.kind, name, built)
        kubectl: list[str | Path] = [bench.kubectl, "--kubeconfig", kubeconfig, "-n", "orders"]
        manifests = EXAMPLE / "deploy"
        begin = time.time()
        hand.call([*kubectl, "apply", "-f", manifests / "namespace.yaml", "-f", manifests])
        hand.call([*kubectl, "rollout", "status", "deployment/orders", "--timeout=120s"])
        return bare, time.time() - begin
    finally:
        bench.delete(name)
        hand.forget(bench.engine)


def _ready(kubectl: Path, kubeconfig: Path) -> bool:
    told = hand.call([kubectl, "--kubeconfig", kubeconfig, "get", "nodes", "-o", "json"])
    (node,) = json.loads(told)["items"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
