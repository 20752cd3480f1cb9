"""A cluster of three nodes, used by others too, and known by a context of a kubeconfig alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asfound
import goimage
import mdblocks
import pytest
import yaml
from gocover import Go
from harness import ONE_ENGINE, ROOT, Run, Runner, TestEngine, kindcov
from underway import held
from web import WEB

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
- role: worker
- role: worker
"""
THEIRS = """package main

import (
	"log"
	"net/http"
)

func main() {
	log.Fatal(http.ListenAndServe(":8080", nil))
}
"""
# What they have: a Deployment of the same name as one of ours, and its image of the same name.
PRESENT = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: theirs}}
---
apiVersion: v1
kind: Namespace
metadata: {name: theirs}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one, namespace: shop}
spec:
  replicas: 10 # as ours, else pods that are added while it changes are ours in part
  selector: {matchLabels: {app: one}}
  template:
    metadata: {labels: {app: one}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "registry.example/one:dev"}]
"""
# What they start while our run goes on.
BYSTANDER = """
apiVersion: v1
kind: Pod
metadata: {name: bystander, namespace: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "registry.example/theirs:dev"}]
"""
SERVICE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: 10
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      tolerations: [{{operator: Exists}}]
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {{matchLabels: {{app: {name}}}}}
      containers:
        - name: web
          image: registry.example/{name}:dev
          imagePullPolicy: IfNotPresent
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
"""
CONFTEST = """
from pytest_kindcov import go_service

one, two, three = (
    go_service(
        f"./cmd/{name}", manifests=f"{name}.yaml", image=f"registry.example/{name}:dev", port=8080
    )
    for name in ("one", "two", "three")
)
"""
# How often each service is asked: the exact count of the one statement of `asked`.
ASKED = {"one": 7, "two": 11, "three": 13}
TEST = """
import pathlib, time, urllib.request

def ask(service, times):
    for _ in range(times):
        assert urllib.request.urlopen(service.url + "/asked", timeout=60).read() == b"yes"

def test_one(one):
    ask(one, 7)
    pathlib.Path("asked").touch()
    while pathlib.Path("wait").exists():
        time.sleep(0.1)

def test_others(two, three):
    ask(two, 11)
    ask(three, 13)
"""


# As a policy of the cluster's owner; only where it is looked for, kube-proxy is privileged too.
POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: nothing-privileged}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  validations:
    - expression: "!object.spec.containers.exists(c, c.?securityContext.?privileged.orValue(false))"
      message: nothing privileged here
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: nothing-privileged}
spec:
  policyName: nothing-privileged
  validationActions: [Deny]
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kindcov}}
"""
STRICT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: strict, namespace: strict}
spec:
  replicas: 3
  selector: {matchLabels: {app: strict}}
  template:
    metadata: {labels: {app: strict}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: web
          image: registry.example/strict:dev
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
"""
STRICT_CONFTEST = """
from pytest_kindcov import go_service

strict = go_service(
    manifests="strict.yaml", image="registry.example/strict:dev", name="strict", port=8080
)
"""
STRICT_TEST = """
import urllib.request

def ask(service, times):
    for _ in range(times):
        assert urllib.request.urlopen(service.url + "/asked", timeout=60).read() == b"yes"

def test_asked(strict):
    ask(strict, 5)

def test_restarted(strict):
    strict.restart()
    ask(strict, 4)
"""
FUNCTIONS = [
    WEB[: WEB.index(f"func {name}(")].count("\n") + 1 for name in ("asked", "never", "main")
]
"""The lines at which they begin."""
TOOLS = "registry.example/tools:dev"


@dataclass(frozen=True)
class Given:
    """Somebody's cluster."""

    engine: TestEngine
    name: str
    kubeconfig: Path
    """Has the contexts `full/rights`, `enough`, `limited` and `none`."""

    @property
    def nodes(self) -> list[str]:
        return [f"{self.name}-{each}" for each in ("control-plane", "worker", "worker2")]

    def kubectl(self, *args: str, stdin: str = "") -> str:
        command = [self.engine.cli, "exec", "-i", self.nodes[0], "kubectl"]
        done = subprocess.run(
            [*command, "--kubeconfig=/etc/kubernetes/admin.conf", *args],
            input=stdin, env=self.engine.env, capture_output=True, text=True, timeout=120,
            check=True,
        )  # fmt: skip
        return done.stdout

    def on(self, node: str, *command: str) -> str:
        return self.engine.run("exec", node, *command)

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def load(self, archive: Path) -> None:
        for node in self.nodes:
            with archive.open("rb") as stream:
                subprocess.run(
                    [self.engine.cli, *f"exec -i {node} ctr -n k8s.io images import -".split()],
                    stdin=stream, env=self.engine.env, check=True, timeout=120,
                )  # fmt: skip

    def state(self) -> asfound.State:
        def on(node: str) -> Any:
            return lambda *command: self.on(node, *command)

        return asfound.state(self.kubectl, {node: on(node) for node in self.nodes})

    def configured(self, namespace: str) -> str:
        """The environment and the mounts that runc was given for their pod."""
        pod = json.loads(self.kubectl("get", "pod", "bystander", "-n", namespace, "-o", "json"))
        identity = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        path = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{identity}/config.json"
        return self.on(pod["spec"]["nodeName"], "cat", path)


@pytest.fixture(scope="module")
def given(
    engine: TestEngine,
    node_image: str,
    kind_bin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Given]:
    """Three nodes, and users with all rights, with those of the page, and with none."""
    directory = tmp_path_factory.mktemp("given")
    cluster = Given(engine, f"given-{os.getpid()}", directory / "contexts")
    (directory / "nodes.yaml").write_text(NODES)
    kind = [kind_bin, "--name", cluster.name, "--kubeconfig", str(directory / "kubeconfig")]
    try:
        subprocess.run(
            [kind[0], "create", "cluster", *kind[1:], "--image", node_image, "--wait", "180s",
             "--config", str(directory / "nodes.yaml")],
            env=engine.env, check=True, timeout=400,
        )  # fmt: skip
        for name in ("one", "theirs"):
            image = f"registry.example/{name}:dev"
            cluster.load(goimage.archive(directory / name, THEIRS, image))
        cluster.apply(PRESENT)
        cluster.kubectl("rollout", "status", "-n", "shop", "deploy/one", "--timeout=90s")
        config = yaml.safe_load((directory / "kubeconfig").read_text())
        cluster.kubeconfig.write_text(yaml.safe_dump(_with_users(cluster, config)))
        yield cluster
    finally:
        subprocess.run(
            [kind[0], "delete", "cluster", *kind[1:]], env=engine.env, check=True, timeout=120
        )


def _with_users(cluster: Given, config: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig with contexts that differ in the rights of their user."""
    page = mdblocks.blocks(ROOT / "docs/clusters.md")
    enough = [block.text for block in page if block.file.endswith("role.yaml")]
    for role in enough:
        cluster.apply(role)
    names = [yaml.safe_load(role)["metadata"]["name"] for role in enough]
    assert len(names) == 2
    # Where nodes are not reached: the page says which rules that takes.
    limited = yaml.safe_load(enough[0])
    limited["metadata"]["name"] = "limited"
    last = next(
        at for at, rule in enumerate(limited["rules"]) if "endpointslices" in rule["resources"]
    )
    del limited["rules"][last + 1 :]
    cluster.apply(json.dumps(limited))
    users = {"enough": names, "limited": ["limited", names[1]], "none": []}
    for user, roles in users.items():
        cluster.kubectl("create", "serviceaccount", user)
        for role in roles:
            cluster.kubectl(
                "create", "clusterrolebinding", f"{user}-{role}", f"--clusterrole={role}",
                f"--serviceaccount=default:{user}",
            )  # fmt: skip
        token = cluster.kubectl("create", "token", user, "--duration=2h").strip()
        config["users"].append({"name": user, "user": {"token": token}})
        context = {"cluster": config["clusters"][0]["name"], "user": user}
        config["contexts"].append({"name": user, "context": context})
    config["contexts"][0]["name"] = "full/rights"
    config["current-context"] = "none"  # it is not the one that is used
    return config


@pytest.fixture
def user(runner: Runner, given: Given, tmp_path: Path) -> Runner:
    """Runs pytest where only the kubeconfig leads to the cluster: others' programs leave a note."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("podman", "docker", "kind", "kubectl", "helm"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\nexit 1\n')
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), runner.env["PATH"]])
    return replace(runner, env={**runner.env, "KUBECONFIG": str(given.kubeconfig), "PATH": path})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    (directory / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    for name in ASKED:
        (directory / "cmd" / name).mkdir(parents=True)
        (directory / "cmd" / name / "main.go").write_text(WEB)
        (directory / f"{name}.yaml").write_text(SERVICE.format(name=name))
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(TEST)
    return directory


def few(repository: Path) -> None:
    """One pod for each service: for what does not depend on their number."""
    for path in repository.glob("*.yaml"):
        path.write_text(path.read_text().replace("replicas: 10", "replicas: 1"))


def counts(profile: Path, name: str) -> dict[int, int]:
    """Of a service's program, the first line of each unit and how often it ran."""
    form = rf"^example\.com/m/cmd/{name}/main\.go:(\d+)\.\S+ \d+ (\d+)$"
    return {int(line): int(count) for line, count in re.findall(form, profile.read_text(), re.M)}


@ONE_ENGINE
def test_thirty_pods_of_three_services(
    given: Given, runner: Runner, user: Runner, repository: Path, tmp_path: Path
) -> None:
    before = given.state()
    (repository / "wait").touch()
    seen: dict[str, str] = {}
    over = threading.Event()

    def meanwhile() -> None:
        """Their pods start on nodes that give coverage to ours, also in the same namespace."""
        while not (repository / "asked").exists() and not over.wait(0.2):
            pass
        try:
            for namespace in ("theirs", "shop"):
                given.apply(BYSTANDER % namespace)
                wait = ("--for=condition=Ready", "pod/bystander", "--timeout=60s")
                given.kubectl("wait", *wait, "-n", namespace)
                seen[namespace] = given.configured(namespace)
            seen["pods"] = given.kubectl("get", "pod", "-n", "kindcov", "-o", "name")
        finally:
            (repository / "wait").unlink()

    watcher = threading.Thread(target=meanwhile)
    watcher.start()
    run = user(repository, "--kind-coverage", "--kind-coverage-kube-context=enough")
    over.set()
    watcher.join()
    assert run.code == 0
    assert "30 containers, 60 files, 3 nodes" in run.output
    assert "WARNING" not in run.output

    # Go's own tool, on the same files, comes to the same; and the counts are those that must be.
    data, profile = repository / ".kindcov/covdata", repository / ".kindcov/coverage.out"
    (total,) = (percent for _, name, percent in Go().func(data) if name == "(statements)")
    assert run.total() == f"{total}%"
    for name, times in ASKED.items():
        ran = counts(profile, name)
        assert [ran[at] for at in FUNCTIONS] == [times, 0, 10]
    code, why = kindcov(user, repository, "why", f"cmd/two/main.go:{FUNCTIONS[0] + 1}")
    assert code == 0
    assert "test_others" in why
    assert "test_one" not in why

    # Others' containers were created as they always are, and went on.
    assert len(seen["pods"].split()) == 3
    for namespace in ("theirs", "shop"):
        assert '"registry.example/theirs:dev"' in seen[namespace]
        assert "kindcov" not in seen[namespace]
        assert "GOCOVERDIR" not in seen[namespace]
        pod = json.loads(given.kubectl("get", "pod", "bystander", "-n", namespace, "-o", "json"))
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
        given.kubectl("delete", "pod", "bystander", "-n", namespace)

    assert asfound.settled(given.state, before) == before
    assert runner.left_behind() == []
    assert not (tmp_path / "called").exists()


@ONE_ENGINE
def test_one_run_at_a_time_and_a_dead_one_is_given_back(
    given: Given, runner: Runner, user: Runner, repository: Path
) -> None:
    few(repository)
    args = ("--kind-coverage", "--kind-coverage-kube-context=full/rights", "-k", "one")
    before = given.state()
    with held(user, repository, "wait", *args) as holder:
        refused = user(repository, *args)
        assert refused.code == 1
        assert "is in use [cluster-in-use]" in refused.output
        assert f"process {holder.pid} has it since 20" in refused.output
        # Another machine does not see our notes; it sees the namespace.
        home = repository.parent / "elsewhere"
        other = replace(user, env={**user.env, "XDG_STATE_HOME": str(home)})
        refused = other(repository, *args)
        assert refused.code == 1
        assert "the cluster is in use [cluster-in-use]" in refused.output
        assert f"it has a namespace kindcov, of process {holder.pid} of" in refused.output
    assert given.state() != before

    # The next run gives back what the dead one changed, and then what itself did. The address is
    # a port of this host, and leads through the API server.
    run = user(repository, *args, "--kind-coverage-address=host")
    assert run.code == 0
    assert "giving back what is left of a run that is dead" in run.output
    assert "1 container, 2 files, 3 nodes" in run.output
    assert asfound.settled(given.state, before) == before

    # So does the doctor; the harvest saves what ran until then.
    with held(user, repository, "wait", *args):
        pass
    code, output = kindcov(user, repository, "doctor")
    told = re.search(r"cluster (\S+) \(kubernetes\) was not given back by a run that is", output)
    assert told
    assert told[1].startswith("full-rights-")
    code, output = kindcov(user, repository, "harvest", "--cluster", told[1], "--dir", "saved")
    assert code == 0
    assert counts(repository / "saved/coverage.out", "one")
    code, output = kindcov(user, repository, "doctor", "--remove")
    assert f"gave back cluster {told[1]}" in output
    assert asfound.settled(given.state, before) == before
    assert runner.left_behind() == []


@ONE_ENGINE
def test_rights_are_asked_for_first(
    given: Given, runner: Runner, user: Runner, repository: Path
) -> None:
    before = given.state()
    run = user(repository, "--kind-coverage", "--kind-coverage-kube-context=none")
    assert run.code == 1
    assert "ERROR the cluster does not let us do what a run needs [rights-missing]" in run.output
    assert re.search(r"cause: missing, .*get nodes, .*create pods/exec", run.output)
    assert "kind: ClusterRole" in run.output
    assert given.state() == before
    assert runner.left_behind() == []


@ONE_ENGINE
def test_no_such_context(user: Runner, repository: Path) -> None:
    run = user(repository, "--kind-coverage-kube-context=nowhere")
    assert run.code == 1
    assert "ERROR there is no context nowhere [context-missing]" in run.output
    assert "has enough, full/rights, limited, none" in run.output


@pytest.fixture
def strict(given: Given, tmp_path: Path) -> Iterator[Path]:
    """A repository whose image, with coverage, is on the nodes, for a namespace that is strict."""
    directory = tmp_path / "strict"
    (directory / "cmd/web").mkdir(parents=True)
    (directory / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (directory / "cmd/web/main.go").write_text(WEB)
    (directory / "strict.yaml").write_text(STRICT)
    (directory / "conftest.py").write_text(STRICT_CONFTEST)
    (directory / "test_strict.py").write_text(STRICT_TEST)
    program = Go().build(directory, tmp_path / "program", "-covermode=atomic", package="./cmd/web")
    image = tmp_path / "strict.tar"
    goimage.pack(image, program, "registry.example/strict:dev")
    given.load(image)
    given.load(_tools(given.engine, tmp_path))
    given.kubectl("create", "namespace", "strict")
    given.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    try:
        yield directory
    finally:
        given.kubectl("delete", "namespace", "strict")


def _tools(engine: TestEngine, tmp_path: Path) -> Path:
    """An image with this machine's sh, sleep and tar, and what they are linked with."""
    root = tmp_path / "tools"
    files = {}
    for name in ("sh", "sleep", "tar"):
        program = Path(str(shutil.which(name))).resolve()
        files[f"bin/{name}"] = program
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for path in re.findall(r"(/\S+) \(0x", linked.stdout):
            files[path.lstrip("/")] = Path(path)
    for name, path in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / name)
    (root.parent / "Dockerfile").write_text(
        "FROM scratch\nCOPY tools/ /\nENV PATH=/bin LD_LIBRARY_PATH="
        + ":".join(sorted({f"/{Path(name).parent}" for name in files})) + "\n"
    )  # fmt: skip
    engine.run("build", "-t", TOOLS, str(root.parent))
    archive = tmp_path / "tools.tar"
    try:
        engine.run("save", "-o", str(archive), *_format(engine), TOOLS)
    finally:
        engine.run("rmi", TOOLS)
    return archive


def _format(engine: TestEngine) -> list[str]:
    return ["--format", "docker-archive"] if engine.name == "podman" else []


@ONE_ENGINE
def test_nothing_privileged_is_admitted(
    given: Given, runner: Runner, user: Runner, strict: Path, tmp_path: Path
) -> None:
    """Workloads are changed instead, and pods give their files as they end, whoever ends them."""
    args = ["--kind-coverage", "--kind-coverage-kube-context=enough"]
    before = given.state()
    given.apply(POLICY)
    time.sleep(1)  # the API server looks for policies each second
    try:
        run = user(strict, *args)
        assert run.code == 1
        assert "no privileged pod can be made there [node-pod-refused]" in run.output
        assert "nothing privileged here" in run.output
        assert "--kind-coverage-sidecar" in run.output
        assert asfound.settled(given.state, before) == before

        run = user(strict, *args, f"--kind-coverage-sidecar={TOOLS}")
    finally:
        given.kubectl("delete", "-f", "-", stdin=POLICY)
    assert run.code == 0
    assert "6 containers, 12 files, " in run.output
    assert "WARNING nothing is known of which test ran what" in run.output
    _is_whole(strict, run, asked=9, pods=6)
    assert asfound.settled(given.state, before) == before
    assert runner.left_behind() == []
    assert not (tmp_path / "called").exists()


@ONE_ENGINE
def test_rights_without_nodes(given: Given, runner: Runner, user: Runner, strict: Path) -> None:
    before = given.state()
    args = ["--kind-coverage", "--kind-coverage-kube-context=limited", "-k", "asked"]
    run = user(strict, *args, f"--kind-coverage-sidecar={TOOLS}")
    assert run.code == 0
    assert "the user lacks rights: create namespaces, delete namespaces" in run.output
    _is_whole(strict, run, asked=5, pods=3)
    assert asfound.settled(given.state, before) == before
    assert runner.left_behind() == []


@ONE_ENGINE
def test_node_that_lacks_a_program(
    given: Given, runner: Runner, user: Runner, strict: Path
) -> None:
    args = ["--kind-coverage", "--kind-coverage-kube-context=enough", "-k", "asked"]
    given.on(given.nodes[1], "mv", "/usr/bin/jq", "/usr/bin/jq.away")
    try:
        before = given.state()
        run = user(strict, *args, f"--kind-coverage-sidecar={TOOLS}")
        assert asfound.settled(given.state, before) == before
    finally:
        given.on(given.nodes[1], "mv", "/usr/bin/jq.away", "/usr/bin/jq")
    assert run.code == 0
    assert f"reached (node {given.nodes[1]}: coverage cannot be injected" in run.output
    _is_whole(strict, run, asked=5, pods=3)
    assert runner.left_behind() == []


def _is_whole(repository: Path, run: Run, *, asked: int, pods: int) -> None:
    data, profile = repository / ".kindcov/covdata", repository / ".kindcov/coverage.out"
    (total,) = (percent for _, name, percent in Go().func(data) if name == "(statements)")
    assert run.total() == f"{total}%"
    ran = counts(profile, "web")
    assert [ran[at] for at in FUNCTIONS] == [asked, 0, pods]
