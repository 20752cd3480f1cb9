"""Live counters on a real cluster: containers of every shape, and those that die."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from fresh import attributed
from gocover import Go
from harness import ROOT, Runner, TestEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DNS_IMAGE = "localhost/kindcov-test/dns:dev"
PROGRAM = ROOT / "tests/programs/shapes"
NODES = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
- role: worker
"""
# Two replicas on two nodes, each with a sidecar and an init container of the same program; not
# root, nothing to write to, stripped.
PAIR = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: pair}
spec:
  replicas: 2
  selector: {matchLabels: {app: pair}}
  template:
    metadata: {labels: {app: pair}}
    spec:
      tolerations: [{operator: Exists}]
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {matchLabels: {app: pair}}
      securityContext: {runAsNonRoot: true, runAsUser: 65532}
      initContainers:
        - name: first
          image: pair:dev
          env: [{name: ROLE, value: init}]
          securityContext: {readOnlyRootFilesystem: true}
      containers:
        - name: pair
          image: pair:dev
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
          securityContext: {readOnlyRootFilesystem: true}
        - name: side
          image: pair:dev
          env: [{name: ROLE, value: sidecar}]
          securityContext: {readOnlyRootFilesystem: true}
"""
SINGLE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: {name}
          image: {name}:dev
          env: [{{name: DEAF, value: "{deaf}"}}]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
          resources: {{limits: {{memory: 64Mi}}}}
"""
# The cluster's own CoreDNS, to be replaced by one that somebody else built with -cover.
DNS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system}
spec:
  replicas: 1
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      containers:
        - {name: coredns, image: "localhost/kindcov-test/dns:dev", imagePullPolicy: Never}
"""
CONFTEST = """
from pytest_kindcov import go_service

def service(name, **more):
    return go_service(".", name=name, manifests=f"{name}.yaml", port=8080, **more)

pair = service("pair", build_flags=["-ldflags=-s -w"])
pie = service(
    "pie",
    build_flags=["-buildmode=pie", "-ldflags=-linkmode=external -extldflags=-static-pie"],
    build_env={"CGO_ENABLED": "1"},
)
deaf = service("deaf")
dns = go_service(image="localhost/kindcov-test/dns:dev", manifests="dns.yaml", port=53)
"""
TESTS = """
import json
import socket
import struct
import time
import urllib.error
import urllib.request

JOB = '''
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - {name: once, image: "pair:dev", env: [{name: ROLE, value: job}]}
'''

def get(service, path, tries=1):
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(service.url + path, timeout=20) as answer:
                return answer.status
        except OSError:
            if not left:
                raise
            time.sleep(0.2)

def ask(service, path):
    try:
        get(service, path)
    except OSError:
        pass

def test_alpha(pair):
    for _ in range(20):
        get(pair, "/alpha")

def test_beta_pie(pie):
    get(pie, "/beta")

def test_beta(pair):
    get(pair, "/beta")

def test_late(deaf, kindcov):
    get(deaf, "/late")
    assert kindcov.settle(0.2)

def test_after_late(deaf):
    get(deaf, "/alpha")

def test_exits(pie):
    ask(pie, "/exit")
    get(pie, "/alpha", 100)

# A container that is new answers, is not ready for a moment, and then again.
def test_deleted(pie, kind_cluster):
    get(pie, "/beta", 100)
    kind_cluster.kubectl("delete", "pod", "-l", "app=pie")
    get(pie, "/alpha", 100)

def test_panics(deaf):
    get(deaf, "/beta", 100)
    time.sleep(0.3)
    ask(deaf, "/panic")
    get(deaf, "/alpha", 100)

def test_runs_out_of_memory(deaf):
    get(deaf, "/beta", 100)
    ask(deaf, "/hog")
    get(deaf, "/alpha", 400)  # its third start waits for 20 s and more

def test_job(pair, kind_cluster, tmp_path):
    (tmp_path / "job.yaml").write_text(JOB)
    kind_cluster.kubectl("apply", "-f", str(tmp_path / "job.yaml"))
    kind_cluster.kubectl("wait", "--for=condition=complete", "job/once", "--timeout=60s")

def resolve(dns, name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!B2H", 0, 1, 1)
    with socket.create_connection((dns.host, dns.port), timeout=10) as connection:
        connection.sendall(struct.pack("!H", len(query)) + query)
        with connection.makefile("rb") as stream:
            answer = stream.read(struct.unpack("!H", stream.read(2))[0])
    return struct.unpack("!6H", answer[:12])[1] & 15, answer[-4:]

def test_dns_name(dns):
    assert resolve(dns, "kubernetes.default.svc.cluster.local") == (0, bytes([10, 96, 0, 1]))

def test_dns_unknown_name(dns):
    assert resolve(dns, "nowhere.default.svc.cluster.local")[0] == 3

def test_coverage_so_far(pair, kindcov):
    before = kindcov.snapshot()
    assert 0 < pair.coverage().covered <= before.covered < before.statements
    ask(pair, "/nothing")
    assert kindcov.snapshot().covered >= before.covered
"""


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A repository with the program in all its shapes."""
    copy = tmp_path / "shapes"
    shutil.copytree(PROGRAM, copy)
    (copy / "pair.yaml").write_text(PAIR)
    (copy / "pie.yaml").write_text(SINGLE.format(name="pie", deaf=""))
    (copy / "deaf.yaml").write_text(SINGLE.format(name="deaf", deaf="yes"))
    (copy / "kind.yaml").write_text(NODES)
    (copy / "dns.yaml").write_text(DNS)
    (copy / "conftest.py").write_text(CONFTEST)
    (copy / "test_shapes.py").write_text(TESTS)
    return copy


def marks(shapes: Path) -> dict[str, set[str]]:
    """By context, the markers of the lines that ran."""
    named = {
        number: found[1]
        for number, line in enumerate((shapes / "main.go").read_text().splitlines(), 1)
        if (found := re.search(r"// mark: (\w+)", line))
    }
    with_marks = {}
    for context, lines in attributed(shapes / ".kindcov/.coverage").items():
        with_marks[context.removeprefix("test_shapes.py::")] = {
            named[number] for file, number in lines if file == "main.go" and number in named
        }
    return with_marks


@pytest.fixture
def dns_image(engine: TestEngine, tmp_path: Path) -> Iterator[None]:
    """An image in the engine's store with CoreDNS, built with -cover."""
    context = tmp_path / "dns"
    Go().build(
        ROOT / "nodeimage/coredns",
        context / "coredns",
        "-covermode=atomic",
        "-coverpkg=./...,github.com/coredns/coredns/...",
        package=".",
    )
    (context / "Dockerfile").write_text('FROM scratch\nCOPY coredns /\nENTRYPOINT ["/coredns"]\n')
    engine.run("build", "-t", DNS_IMAGE, str(context), timeout=300)
    yield
    engine.run("rmi", "-f", DNS_IMAGE)


@pytest.mark.usefixtures("dns_image")
def test_shapes(runner: Runner, shapes: Path) -> None:
    options = ["--kind-coverage-kind-config=kind.yaml", "-v", "-x", "-o", "kindcov_allow=killed"]
    run = runner(shapes, "--kind-coverage", *options)
    assert run.code == 0
    assert "13 passed" in run.output
    assert "PASSED +" in run.output
    # The one without a handler for SIGTERM lost nothing; the one that was killed is named.
    assert re.search(r"^default/deaf-\S+ \(deaf\) ended at SIGTERM without", run.output, re.M)
    killed = r"^default/deaf-\S+ \(deaf\) ended without writing its counters \(.*\); allowed$"
    assert re.search(killed, run.output, re.M)
    assert runner.left_behind() == []
    assert_dns(shapes)
    ran = marks(shapes)
    # A pod that is new in the middle of a test has a first probe that nothing tells from the test,
    # and on a busy machine one may be late; the moment before a panic is read only by chance.
    doubtful = {"test_panics": {"ready", "panic"}}
    tests = {
        name: found - doubtful.get(name, {"ready"})
        for name, found in ran.items()
        if name.startswith("test_") and "dns" not in name
    }
    assert tests == {
        "test_alpha": {"alpha"},
        "test_beta_pie": {"beta"},
        "test_beta": {"beta"},
        "test_late": {"late"},
        "test_after_late": {"alpha"},
        "test_exits": {"exit", "alpha"},
        "test_deleted": {"beta", "bye", "alpha"},
        "test_panics": {"beta", "alpha"},
        "test_runs_out_of_memory": {"beta", "hog", "alpha"},
        "test_job": {"job"},
        "test_coverage_so_far": {"default"},
    }
    assert "ready" in ran["background"]
    assert "init" in ran["[startup]"]
    assert ran["[shutdown]"] - {"ready"} == {"bye"}


def assert_dns(shapes: Path) -> None:
    """What CoreDNS ran for a name that is there, and for one that is not."""
    ran = attributed(shapes / ".kindcov/.coverage")
    name, unknown = (
        {file for file, _ in ran[f"test_shapes.py::test_dns_{which}"]}
        for which in ("name", "unknown_name")
    )
    plugin = "github.com/coredns/coredns/plugin"
    assert f"{plugin}/kubernetes/handler.go" in name & unknown
    assert f"{plugin}/etcd/msg/type.go" in name - unknown  # the kind of a record that was found
