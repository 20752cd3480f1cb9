"""A cluster that somebody else made, with things of theirs: used, and given back as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asfound
import goimage
import pytest
from harness import ONE_ENGINE, Runner, TestEngine, kindcov
from underway import held
from web import WEB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = "registry.example/web:dev"
THEIRS = """package main

import (
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if os.Getenv("WRITES") != "" {
		for ; ; time.Sleep(50 * time.Millisecond) {
			path := filepath.Join(os.Getenv("GOCOVERDIR"), "alive")
			if err := os.WriteFile(path, []byte(time.Now().String()), 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}
	http.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("theirs"))
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
"""
# What they have: the same names as in our manifests, other contents.
PRESENT = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: theirs}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop, annotations: {note: theirs}}
data: {colour: green, size: large}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - {name: web, image: "registry.example/web:dev", imagePullPolicy: IfNotPresent}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: shop, labels: {app: alone}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: web, image: "registry.example/web:dev", imagePullPolicy: IfNotPresent}
"""
OURS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: ours}}
---
apiVersion: v1
kind: Namespace
metadata: {name: extra}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop}
data: {colour: red}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: new, namespace: extra}
data: {}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kindcov-test-new}
rules: []
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: registry.example/web:dev
          imagePullPolicy: IfNotPresent
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: shop, labels: {app: alone}}
spec:
  containers:
    - {name: web, image: "registry.example/web:dev", imagePullPolicy: IfNotPresent}
"""
CONFTEST = """
from pytest_kindcov import go_service

web = go_service("./cmd/web", manifests="web.yaml", image="registry.example/web:dev", port=8080)
"""
# It comes while the nodes are changed, and goes on: it writes to a GOCOVERDIR of its own.
BYSTANDER = """
apiVersion: v1
kind: Pod
metadata: {name: bystander, namespace: default}
spec:
  containers:
    - name: writes
      image: registry.example/bystander:dev
      imagePullPolicy: IfNotPresent
      env: [{name: WRITES, value: "1"}, {name: GOCOVERDIR, value: /own}]
      volumeMounts: [{name: own, mountPath: /own}]
  volumes: [{name: own, emptyDir: {}}]
"""
TEST = """
import json, pathlib, time, urllib.request

BYSTANDER = pathlib.Path("bystander.yaml")

def test_it(web, kind_cluster):
    assert urllib.request.urlopen(web.url + "/asked", timeout=60).read() == b"yes"
    if BYSTANDER.exists():
        kind_cluster.kubectl("apply", "-f", str(BYSTANDER))
        kind_cluster.kubectl("wait", "--for=condition=Ready", "pod/bystander", "--timeout=60s")
    pathlib.Path("asked").touch()
    if pathlib.Path("sleep").exists():
        time.sleep(600)
"""


@dataclass(frozen=True)
class Given:
    """Somebody's cluster."""

    engine: TestEngine
    name: str

    @property
    def node(self) -> str:
        return f"{self.name}-control-plane"

    def run(self, *command: str) -> str:
        """A command in its node."""
        return self.engine.run("exec", self.node, *command)

    def kubectl(self, *args: str) -> str:
        return self.run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *args)

    def apply(self, manifest: str) -> None:
        self.run(
            "bash",
            "-c",
            'kubectl --kubeconfig=/etc/kubernetes/admin.conf apply -f - <<< "$1"',
            "_",
            manifest,
        )

    def load(self, archive: Path) -> None:
        with archive.open("rb") as stream:
            subprocess.run(
                [self.engine.cli, *f"exec -i {self.node} ctr -n k8s.io images import -".split()],
                stdin=stream,
                env=self.engine.env,
                check=True,
                timeout=120,
            )

    def says(self, pod_label: str) -> set[str]:
        """What the pods answer."""
        form = "jsonpath={.items[*].status.podIP}"
        addresses = self.kubectl("get", "pod", "-n", "shop", "-l", pod_label, "-o", form).split()
        ask = "printf 'GET /asked HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3"
        return {
            self.run("bash", "-c", f"exec 3<>/dev/tcp/{each}/8080; {ask}") for each in addresses
        }

    def state(self) -> asfound.State:
        """All of it that a run could change, but for what changes by itself."""
        return asfound.state(self.kubectl, {self.node: self.run})


@pytest.fixture(scope="module")
def given(
    engine: TestEngine,
    node_image: str,
    kind_bin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Given]:
    """A cluster with a Deployment and a Pod that run, and an image that is not ours."""
    directory = tmp_path_factory.mktemp("given")
    cluster = Given(engine, f"given-{os.getpid()}")
    kind = [kind_bin, "--name", cluster.name, "--kubeconfig", str(directory / "kubeconfig")]
    try:
        subprocess.run(
            [kind[0], "create", "cluster", *kind[1:], "--image", node_image, "--wait", "120s"],
            env=engine.env,
            check=True,
            timeout=300,
        )
        for name in (IMAGE, "registry.example/bystander:dev"):
            cluster.load(goimage.archive(directory / name.partition("/")[2][:3], THEIRS, name))
        cluster.apply(PRESENT)
        cluster.kubectl("rollout", "status", "-n", "shop", "deploy/web", "--timeout=60s")
        ready = ["wait", "--for=condition=Ready", "pod/alone", "-n", "shop", "--timeout=60s"]
        cluster.kubectl(*ready)
        yield cluster
    finally:
        subprocess.run(
            [kind[0], "delete", "cluster", *kind[1:]], env=engine.env, check=True, timeout=120
        )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    (directory / "cmd/web").mkdir(parents=True)
    (directory / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (directory / "cmd/web/main.go").write_text(WEB)
    (directory / "web.yaml").write_text(OURS)
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(TEST)
    return directory


def settled(given: Given, before: asfound.State) -> asfound.State:
    """Its state, as soon as it is what it was or stays another."""
    return asfound.settled(given.state, before)


@ONE_ENGINE
def test_a_given_cluster_is_given_back(given: Given, runner: Runner, repository: Path) -> None:
    attach = ["--kind-coverage", f"--kind-coverage-cluster={given.name}"]
    before = given.state()
    assert given.says("app=web") == given.says("app=alone") == {"theirs"}
    assert "kindcov" not in before["nodes"][given.node]
    (repository / "bystander.yaml").write_text(BYSTANDER)

    run = runner(repository, *attach, "--kind-coverage-keep=never")
    assert run.code == 0
    assert "2 containers, 4 files, 1 node" in run.output
    assert "WARNING" not in run.output

    # A pod that came meanwhile goes on, undisturbed, and writes where it always would have.
    pod = json.loads(given.kubectl("get", "pod", "bystander", "-o", "json"))
    (status,) = pod["status"]["containerStatuses"]
    assert status["restartCount"] == 0
    assert "running" in status["state"]
    own = f"/var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/own"
    written = given.run("cat", f"{own}/alive")
    time.sleep(1)
    assert given.run("cat", f"{own}/alive") != written
    given.kubectl("delete", "pod", "bystander", "--grace-period=1")

    assert settled(given, before) == before
    assert given.says("app=web") == given.says("app=alone") == {"theirs"}
    assert runner.left_behind() == []


@ONE_ENGINE
def test_one_run_at_a_time_and_none_that_dies_keeps_it(
    given: Given, runner: Runner, repository: Path
) -> None:
    attach = ["--kind-coverage", f"--kind-coverage-cluster={given.name}"]
    before = given.state()
    with held(runner, repository, "sleep", *attach) as holder:
        refused = runner(repository, *attach)
        assert refused.code == 1
        assert f"ERROR cluster {given.name} is in use [cluster-in-use]" in refused.output
        assert f"process {holder.pid} has it since 20" in refused.output
        assert str(repository) in refused.output
    assert given.state() != before

    # The next run gives back what the dead one changed, and then what itself did.
    run = runner(repository, *attach)
    assert run.code == 0
    assert "giving back what is left of a run that is dead" in run.output
    assert "2 containers, 4 files, 1 node" in run.output
    assert settled(given, before) == before

    # So does the doctor.
    with held(runner, repository, "sleep", *attach):
        pass
    code, output = kindcov(runner, repository, "doctor")
    assert f"cluster {given.name} (podman) was not given back by a run that is dead" in output
    code, output = kindcov(runner, repository, "doctor", "--remove")
    assert f"gave back cluster {given.name}" in output
    assert code == 0
    assert settled(given, before) == before
    assert given.says("app=web") == {"theirs"}
    assert runner.left_behind() == []


@ONE_ENGINE
def test_name_that_is_no_clusters(given: Given, runner: Runner, repository: Path) -> None:
    run = runner(repository, "--kind-coverage-cluster=nowhere")
    assert run.code == 1
    assert "ERROR there is no cluster nowhere [cluster-missing]" in run.output
    assert re.search(f"cause: podman has .*{given.name}", run.output)


@ONE_ENGINE
def test_named_by_the_option_of_pytest_kind(given: Given, runner: Runner, repository: Path) -> None:
    """`--cluster-name` makes a cluster if there is none; one that is there is only used."""
    before = given.state()
    run = runner(repository, f"--cluster-name={given.name}")
    assert run.code == 0
    assert f"using cluster {given.name} (podman), which was there already" in run.output
    assert settled(given, before) == before
