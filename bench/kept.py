"""Start to first test on a kept cluster, against the same by hand, on the same cluster.

Both sides have new pods that count from zero. By hand that is kubectl apply, rollout restart (else
the counters are those of the run before), rollout status and a port-forward; and, where the program
changed, a build, an image and its loading before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import hand
from pairs import Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine import Bench

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
    kubeconfig = bench.directory("kept") / "kubeconfig"
    kubectl: list[str | Path] = [bench.kubectl, "--kubeconfig", kubeconfig, "-n", "orders"]
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        (repository / "cmd/orders/change.go").write_text(CHANGE % changes)

    def ours() -> float:
        begin = time.time()
        notes = bench.pytest(repository, *keep)
        assert bench.kept == [name], notes.output  # and no new one
        return float(notes.values["first"] - begin)

    def unchanged() -> dict[str, float]:
        return {"ours": ours()}

    def changed() -> dict[str, float]:
        change()
        return {"ours, changed": ours()}

    def apply() -> None:
        manifests = repository / "deploy"
        hand.call([*kubectl, "apply", "-f", manifests / "namespace.yaml", "-f", manifests])

    def ready() -> None:
        hand.call([*kubectl, "rollout", "status", "deployment/orders", "--timeout=120s"])

    def settle() -> None:
        # Not measured: the service is there again after a run of ours ended its pods.
        apply()
        ready()

    def deploy() -> tuple[float, float]:
        apply()
        begin = time.time()
        hand.call([*kubectl, "rollout", "restart", "deployment/orders"])
        ready()
        pod = time.time() - begin
        with hand.forwarded(kubectl, "service/orders", 8080) as (port,):
            url = f"http://127.0.0.1:{port}"
            notes = bench.pytest(plain, "-p", "no:kindcov", URL=url)
        return float(notes.values["first"]), pod

    def by_hand() -> dict[str, float]:
        settle()
        begin = time.time()
        first, pod = deploy()
        return {"hand": first - begin, "pod": pod}

    def by_hand_changed() -> dict[str, float]:
        settle()
        change()
        begin = time.time()
        hand.build(repository, own)
        hand.image(bench.engine, own)
        hand.load(bench.engine, bench.kind, name, own)
        return {"hand, changed": deploy()[0] - begin}

    try:
        bench.say("creating a cluster that is kept")
        bench.pytest(repository, *keep)
        (name,) = bench.kept
        words = ["--name", name, "--kubeconfig", str(kubeconfig)]
        hand.call([bench.kind, "export", "kubeconfig", *words], env=bench.kind_env)
        taken = alternate(bench.pairs, [unchanged, by_hand, changed, by_hand_changed])
    finally:
        for cluster in bench.kept:
            bench.delete(cluster)
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
    figure += ", same program"
    yield Row(figure, "s", taken["ours"], steps, taken["hand"], goal)
    pod = "the new pod alone: rollout restart, rollout status"
    yield Row(figure, "s", taken["ours"], pod, taken["pod"])
