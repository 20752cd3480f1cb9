"""Start to first test on a kept cluster, against the same by hand, on the same cluster.

Both sides have new pods that count from zero. By hand that is kubectl apply, rollout restart (else
the counters are those of the run before), rollout status and a port-forward; and, where the program
changed, a build, an image and its loading before.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import hand
from machine import Cluster
from pairs import Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine import Bench, Notes

TESTS = """
import urllib.request

def test_it(orders):
    assert urllib.request.urlopen(orders.url + "/orders", timeout=10).status == 200
"""
PLAIN = """
import os, urllib.request

def test_it():
    assert urllib.request.urlopen(os.environ["URL"] + "/orders", timeout=10).status == 200
"""
CHANGE = "package main\n\nfunc init() { change = %d }\n\nvar change int\n"


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    repository = bench.repository(tests=TESTS)
    plain = bench.directory("plain")
    (plain / "test_plain.py").write_text(PLAIN)
    (plain / "pytest.ini").write_text("[pytest]\n")
    own = bench.directory("image")
    keep = ("--kind-coverage", "--kind-coverage-keep=always")
    bench.say("creating a cluster that is kept")
    named = re.search(r"cluster (\S+) was kept", bench.pytest(repository, *keep).output)
    assert named is not None
    name = ["--name", named[1]]
    cluster = Cluster(named[1], bench.directory("kept") / "kubeconfig")
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        (repository / "cmd/orders/change.go").write_text(CHANGE % changes)

    def ours() -> Notes:
        notes = bench.pytest(repository, *keep)
        assert f"using cluster {cluster.name}" in notes.output, notes.output
        return notes

    def unchanged() -> dict[str, float]:
        begin = time.time()
        return {"ours": ours().values["first"] - begin}

    def changed() -> dict[str, float]:
        change()
        begin = time.time()
        return {"ours, changed": ours().values["first"] - begin}

    def deploy() -> float:
        kubectl = bench.kubectl_for(cluster, "orders")
        namespace = repository / "deploy/namespace.yaml"
        hand.call([*kubectl, "apply", "-f", namespace, "-f", repository / "deploy"])
        hand.call([*kubectl, "rollout", "restart", "deployment/orders"])
        hand.call([*kubectl, "rollout", "status", "deployment/orders", "--timeout=120s"])
        with hand.forwarded(kubectl, "service/orders", 8080) as (port,):
            url = f"http://127.0.0.1:{port}"
            notes = bench.pytest(plain, "-p", "no:kindcov", URL=url)
        return float(notes.values["first"])

    def by_hand() -> dict[str, float]:
        _settle(bench, cluster, repository)
        begin = time.time()
        return {"hand": deploy() - begin}

    def by_hand_changed() -> dict[str, float]:
        _settle(bench, cluster, repository)
        change()
        begin = time.time()
        hand.build(repository, own)
        hand.image(bench.engine, own)
        hand.load(bench.engine, bench.kind, cluster.name, own)
        return {"hand, changed": deploy() - begin}

    try:
        export = [bench.kind, "export", "kubeconfig", *name, "--kubeconfig", cluster.kubeconfig]
        hand.call(export, env=bench.kind_env)
        taken = alternate(bench.pairs, [unchanged, by_hand, changed, by_hand_changed])
    finally:
        delete = [bench.kind, "delete", "cluster", *name, "--kubeconfig", cluster.kubeconfig]
        hand.call(delete, env=bench.kind_env)
        hand.forget(bench.engine)
    figure, goal = "start to first test, kept cluster", Goal("at most", 1.0)
    steps = "kubectl apply, rollout restart, rollout status, port-forward"
    yield Row(
        f"{figure}, changed program",
        "s",
        taken["ours, changed"],
        f"go build, image, kind load, {steps}",
        taken["hand, changed"],
        goal,
    )
    yield Row(f"{figure}, same program", "s", taken["ours"], steps, taken["hand"], goal)


def _settle(bench: Bench, cluster: Cluster, repository: Path) -> None:
    """Not measured: the service is there again after a run of ours ended its pods."""
    kubectl = bench.kubectl_for(cluster, "orders")
    namespace = repository / "deploy/namespace.yaml"
    hand.call([*kubectl, "apply", "-f", namespace, "-f", repository / "deploy"])
    hand.call([*kubectl, "rollout", "status", "deployment/orders", "--timeout=120s"])
