"""End of the last test to reports written, against the same by hand (kubernaut's DD-TEST-007).

By hand: the Deployment mounts a directory of the node and runs as root; at the end it is scaled to
0, its pods are waited for, the directory is copied off the node by the engine, and Go's tools make
the percentages, the profile and the page. The bare stop is the first part of that, until the pods
are gone. Ours: the same reports with who ran what, of pods that are stopped gracefully; and of pods
that go on, from their memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import hand
import yaml
from machine import CONFTEST
from pairs import Goal, Row, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine import Bench

TESTS = """
import time, urllib.request
from pathlib import Path
import probe, pytest

@pytest.mark.parametrize("number", range(20))
def test_some(orders, number):
    assert urllib.request.urlopen(orders.url + "/orders", timeout=10).status == 200

def test_pods_go_on(orders, tmp_path):
    from pytest_kindcov.covdata import profile
    from pytest_kindcov.covdata.store import Store
    from pytest_kindcov.report import make, sources, types

    own = sources.repository(Path.cwd())
    begin = time.perf_counter()
    counters = probe.recorders[0].counters()
    store = Store(texts=[profile.from_counters(*each) for each in counters])
    report = make.report(store, own, make.Run())
    for kind in ("go", "html"):
        types.emit(types.parse(kind), report, tmp_path)
    types.text(types.parse("term"), report)
    probe.NOTES["kept"] = time.perf_counter() - begin
    assert report.total.covered > 0
"""
NAMESPACE = "kindcov-bench"
DATA = "/coverdata"
REFERENCE = "registry.example/by-hand:dev"


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    repository = bench.repository(CONFTEST, TESTS)
    cluster = bench.shared
    kubectl = bench.kubectl_for(cluster, NAMESPACE)
    own, output = bench.directory("image"), bench.directory("output")
    hand.build(repository, own)
    try:
        hand.image(bench.engine, own, REFERENCE)
        hand.load(bench.engine, bench.kind, cluster.name, own, REFERENCE)
    finally:
        hand.forget(bench.engine, REFERENCE)
    manifest = own / "manifests.yaml"
    manifest.write_text(_manifests(repository))
    hand.call([*kubectl, "apply", "-f", manifest])

    def ours() -> dict[str, float]:
        reports = ("--kind-coverage-report=term", "--kind-coverage-report=html")
        notes = bench.ours(repository, *reports)
        return {"stopped": notes.ended, "pods go on": notes.values["kept"]}

    def by_hand() -> dict[str, float]:
        _serve(kubectl)
        target = bench.directory("by-hand")
        begin = time.perf_counter()
        hand.call([*kubectl, "scale", "deployment/orders", "--replicas=0"])
        wait = ["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=orders"]
        hand.call([*kubectl, *wait, "--timeout=60s"])
        bare = time.perf_counter() - begin
        hand.call([bench.engine, "cp", f"{cluster.node}:{DATA}/.", target])
        profile, page = output / "profile", output / "coverage.html"
        hand.call(["go", "tool", "covdata", "percent", f"-i={target}"])
        hand.call(["go", "tool", "covdata", "textfmt", f"-i={target}", f"-o={profile}"])
        hand.call(["go", "tool", "cover", f"-html={profile}", "-o", page], repository)
        spent = time.perf_counter() - begin
        assert "pricing.go" in profile.read_text()
        hand.call([bench.engine, "exec", cluster.node, "rm", "-rf", DATA])
        return {"hand": spent, "bare": bare}

    by_hand()  # the go command builds its tools when they are first used
    taken = alternate(bench.pairs, [ours, by_hand])
    hand.call([*kubectl, "delete", "namespace", NAMESPACE])
    figure = "end of the last test to reports written"
    whole = "by hand: scale 0, wait, cp, covdata percent, textfmt, cover -html"
    yield Row(
        f"{figure}, pods go on", "s", taken["pods go on"], whole, taken["hand"], Goal("faster", 10)
    )
    yield Row(
        f"{figure}, pods stopped gracefully",
        "s",
        taken["stopped"],
        "the bare stop: scale 0, wait",
        taken["bare"],
        Goal("at most", 1.2),
    )
    yield Row(f"{figure}, pods stopped gracefully", "s", taken["stopped"], whole, taken["hand"])


def _manifests(repository: Path) -> str:
    """The example's, changed as DD-TEST-007 says."""
    deployment = yaml.safe_load((repository / "deploy/deployment.yaml").read_text())
    service = yaml.safe_load((repository / "deploy/service.yaml").read_text())
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for each in (deployment, service):
        each["metadata"]["namespace"] = NAMESPACE
    pod = deployment["spec"]["template"]["spec"]
    host = {"path": DATA, "type": "DirectoryOrCreate"}
    pod["volumes"] = [{"name": "coverage", "hostPath": host}]
    pod["securityContext"] = {"runAsUser": 0, "runAsGroup": 0}
    (container,) = pod["containers"]
    container["image"] = REFERENCE
    container["env"].append({"name": "GOCOVERDIR", "value": DATA})
    container["volumeMounts"] = [{"name": "coverage", "mountPath": DATA}]
    del container["securityContext"]
    deployment["spec"]["replicas"] = 0
    return yaml.safe_dump_all([namespace, deployment, service])


def _serve(kubectl: list[str | Path]) -> None:
    """Not measured: have it there, and let it do something."""
    hand.call([*kubectl, "scale", "deployment/orders", "--replicas=1"])
    hand.call([*kubectl, "rollout", "status", "deployment/orders", "--timeout=120s"])
    path = f"/api/v1/namespaces/{NAMESPACE}/services/orders:8080/proxy/orders"
    hand.call([*kubectl, "get", "--raw", path])
