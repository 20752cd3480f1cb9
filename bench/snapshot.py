"""All counters while the service runs, against an HTTP endpoint in it.

The endpoint is `runtime/coverage.WriteCounters` behind net/http, polled through one port-forward of
kubectl for each pod, all at once, over connections that stay open. Ours reads them from the node.
Before each, every pod answers a request, so there is something new to read; that is not timed. The
program covers parts of the standard library too, to have the counters of a large service.

And what it does to the service: the 99th percentile of its answers, and the time it has for each
when all of its machine is used, with ten snapshots a second, against none, in slices of time that
take turns; told besides, with the endpoint polled as often, and with a loop in place of the
snapshot that reads nothing and takes as long: what any work of that length does to the service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hand
from machine import BENCH
from pairs import Goal, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from machine import Bench

MANY = 50
READINGS = 10  # of which a pair takes the median
SLICES = 8  # of a pair, a second each: of 4 works each has each place twice
FIGURES = {
    "p99": "p99 of the service's answers",
    "each": "time for each answer under full load",
}
ENDPOINT = """package main

import (
	"net/http"
	"runtime/coverage"
)

func init() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /coverage", func(w http.ResponseWriter, _ *http.Request) {
		if err := coverage.WriteCounters(w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	go http.ListenAndServe(":8081", mux)
}
"""
CONFTEST = """
import probe
from pytest_kindcov import go_service

probe.watch()
orders = go_service(
    "./cmd/orders", manifests="deploy/", image="registry.example/orders:dev", port=8080,
    coverpkg=["./...", "net/...", "encoding/...", "crypto/...", "fmt", "reflect", "time"],
    timeout=300,
)
"""
TESTS = """
import contextlib, http.client, json, os, statistics, subprocess, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import hand, probe

PAIRS, READINGS, SLICES = (int(os.environ[name]) for name in ("PAIRS", "READINGS", "SLICES"))

class Pods:
    # Each with a port-forward, and a connection to the service and to its endpoint.

    def __init__(self, stack, kubeconfig):
        kubectl = [os.environ["KUBECTL"], "--kubeconfig", str(kubeconfig), "-n", "orders"]
        told = json.loads(hand.call([*kubectl, "get", "pods", "-o", "json"]))
        names = [pod["metadata"]["name"] for pod in told["items"]]
        self.service, self.endpoint = [], []
        for name in names:
            ports = stack.enter_context(hand.forwarded(kubectl, f"pod/{name}", 8080, 8081))
            service, endpoint = (
                http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in ports
            )
            self.service.append(service)
            self.endpoint.append(endpoint)
        self.threads = stack.enter_context(ThreadPoolExecutor(len(names)))
        self.size = 0

    def touch(self):
        list(self.threads.map(lambda one: get(one, "/orders"), self.service))

    def poll(self):
        answers = list(self.threads.map(lambda one: get(one, "/coverage"), self.endpoint))
        self.size = max(map(len, answers))

def get(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return body

def timed(work):
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)

def snapshots(pods, recorder):
    pairs = []
    for number in range(PAIRS):
        taken = {"ours": [], "other": []}
        for reading in range(READINGS):
            works = [("ours", recorder.read), ("other", pods.poll)]
            for name, work in works if reading % 2 else works[::-1]:
                pods.touch()
                taken[name].append(timed(work))
        pairs.append({name: statistics.median(each) for name, each in taken.items()})
    return pairs

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

def latencies(url, work, every):
    # Of a slice, with something ten times a second. It prints more than a pipe holds.
    load = [os.environ["LOAD"], "-url", url, "-for", "1s", "-every", every]
    with tempfile.TemporaryFile("w+") as taken:
        with subprocess.Popen(load, stdout=taken) as process:
            while process.poll() is None:
                work()
                time.sleep(0.1)
        taken.seek(0)
        return [1000 * float(word) for word in taken.read().split()]

def test_snapshots(orders, kind_cluster):
    recorder = probe.recorders[0]
    with contextlib.ExitStack() as stack:
        pods = Pods(stack, kind_cluster.kubeconfig_path)
        pods.poll()
        recorder.read()
        snapshots_ = probe.NOTES["snapshots"] = snapshots(pods, recorder)
        probe.NOTES["size"] = pods.size
        if len(pods.service) > 1:
            return
        typical = statistics.median(pair["ours"] for pair in snapshots_) / 1000
        works = {
            "none": lambda: None,
            "ours": recorder.read,
            "other": pods.poll,
            "limit": lambda: spin(typical),
        }
        figures = {
            "p99": ("4ms", lambda taken: statistics.quantiles(taken, n=100)[98]),
            "each": ("0", lambda taken: 1000 * SLICES / len(taken)),
        }
        latencies(orders.url + "/orders", works["none"], "0")  # warm
        for figure, (every, value) in figures.items():
            pairs = probe.NOTES[figure] = []
            for number in range(PAIRS):
                taken = {name: [] for name in works}
                for slice_ in range(SLICES):
                    first = slice_ // 2 % len(works)
                    names = [*works][first:] + [*works][:first]
                    names = names[::-1] if slice_ % 2 else names
                    for name in names:
                        taken[name] += latencies(orders.url + "/orders", works[name], every)
                pairs.append({name: value(each) for name, each in taken.items()})
"""


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    load = bench.directory("load") / "load"
    hand.call(["go", "build", "-o", load, "."], BENCH / "load")
    for count in (1, MANY):
        notes = _run(bench, load, count)
        pairs = notes["snapshots"]
        yield Row(
            f"snapshot of {count} process{'es' if count > 1 else ''}",
            "ms",
            tuple(pair["ours"] for pair in pairs),
            f"HTTP endpoint, {notes['size'] / 1000:.0f} kB each, through port-forward",
            tuple(pair["other"] for pair in pairs),
            Goal("at most", 1.0),
        )
        for figure, what in FIGURES.items():
            for name, how, goal in (
                ("ours", "10 snapshots a second", Goal("at most", 1.02)),
                ("other", "the endpoint polled 10 times a second", None),
                ("limit", "a processor kept as long as by a snapshot, 10 times a second", None),
            ):
                if figure in notes:
                    yield Row(
                        f"{what}, {how}",
                        "ms",
                        tuple(pair[name] for pair in notes[figure]),
                        "without",
                        tuple(pair["none"] for pair in notes[figure]),
                        goal,
                    )


def _run(bench: Bench, load: Path, count: int) -> dict[str, Any]:
    repository = bench.repository(CONFTEST, TESTS)
    (repository / "cmd/orders/endpoint.go").write_text(ENDPOINT)
    manifest = repository / "deploy/deployment.yaml"
    manifest.write_text(manifest.read_text().replace("replicas: 1", f"replicas: {count}"))
    return bench.ours(
        repository,
        "--kind-coverage-poll=0",
        KUBECTL=str(bench.kubectl),
        LOAD=str(load),
        PAIRS=str(bench.pairs),
        READINGS=str(READINGS),
        SLICES=str(SLICES),
    ).values
