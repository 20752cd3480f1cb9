"""The fault table: what one run of pytest did under a fault, and what must hold of it."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import yaml
from harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness import Runner, TestEngine

OBJECTS = ("kubectl", "get", "deployments,services,namespaces", "-A", "-o", "name")
PROGRAM = ROOT / "tests/programs/faults"
_MARK = re.compile(r"// mark: (\w+)")


@dataclass(frozen=True)
class Result:
    """A finished run of pytest: what it printed, what its total has, what it left."""

    code: int
    output: str
    repository: Path
    left: list[str]
    """Containers, volumes, networks, processes, files, kubeconfig; what stayed on a shared node."""

    def outcome(self, test: str) -> str:
        """How a test of the run ended, in a run with `-v`: PASSED, FAILED, ERROR, SKIPPED."""
        found = re.findall(rf"::{test}(?:\[\S*\])? (?:<- \S+ )?([A-Z]+)", self.output)
        assert found, f"no outcome of {test}"
        return str(found[-1])

    def messages(self) -> list[str]:
        """Errors, warnings and notes of the block at the end, each with its indented lines."""
        block = self.output.rpartition(" kind coverage ")[2].splitlines()[1:]
        found: list[str] = []
        for line in block:
            if line.startswith(("=====", "-----")):
                continue
            if line.startswith("  ") and found:
                found[-1] += f"\n{line}"
            else:
                found.append(line)
        return found

    def message(self, pattern: str) -> str:
        """The only message that the pattern is found in."""
        found = [text for text in self.messages() if re.search(pattern, text)]
        assert len(found) == 1, (pattern, found)
        return found[0]

    def counts(self, directory: str = ".kindcov") -> dict[str, int]:
        """How often each marked line of the program ran, by the run's text profile."""
        source = (self.repository / "main.go").read_text().splitlines()
        marks = {
            number: found[1]
            for number, line in enumerate(source, 1)
            if (found := _MARK.search(line))
        }
        profile = self.repository / directory / "coverage.out"
        counts: dict[str, int] = {}
        for line in profile.read_text().splitlines()[1:] if profile.exists() else []:
            block, _, count = line.rpartition(" ")
            file, _, span = block.partition(":")
            if not file.endswith("/main.go"):
                continue
            first, last = (int(part.split(".")[0]) for part in span.split(" ")[0].split(","))
            for number, name in marks.items():
                if first <= number <= last:
                    counts[name] = int(count)
        return counts


@dataclass(frozen=True)
class Row:
    """What must hold of one fault."""

    fault: str
    """Its name; the run's test that makes it is `test_FAULT`."""
    code: int = 0
    """The run's exit code."""
    outcome: str = "PASSED"
    """Of the fault's test; empty: it is not looked at."""
    message: str = ""
    """A pattern that one message of the block has; empty: there is none for it."""
    slug: str = ""
    """That message's name."""
    says: tuple[str, ...] = ()
    """Patterns: what it must say besides, cause and remedy first of all."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often marked lines ran, exactly; -1: at least once."""
    left: tuple[str, ...] = ()
    """Patterns of what may be left: what nobody can remove, such as a dead engine's cluster."""

    def check(self, result: Result) -> None:
        """Compare with what was."""
        if self.outcome:
            assert result.outcome(f"test_{self.fault}") == self.outcome
        if self.message:
            text = result.message(self.message)
            assert not self.slug or f"[{self.slug}]" in text.splitlines()[0], text
            for pattern in self.says:
                assert re.search(pattern, text, re.S), (pattern, text)
        counts = result.counts()
        wanted = {name: counts.get(name) for name in self.counts}
        assert wanted == {
            name: counts.get(name) or "some" if count == -1 else count
            for name, count in self.counts.items()
        }
        assert result.code == self.code
        left = [each for each in result.left if not any(re.search(may, each) for may in self.left)]
        assert left == []

    def __str__(self) -> str:
        return self.fault


def repository(place: Path, conftest: str, tests: str, files: Mapping[str, str] = {}) -> Path:
    """A user's repository: the program of the faults, a conftest, tests, and more files."""
    shutil.copytree(PROGRAM, place)
    (place / "conftest.py").write_text(conftest)
    (place / "test_faults.py").write_text(tests)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


@dataclass(frozen=True)
class Cluster:
    """A Kind cluster of one node that outlives the runs: making one takes 15 s."""

    name: str
    engine: TestEngine
    objects: tuple[str, ...] = ()
    """Those that are there without any run."""

    @property
    def node(self) -> str:
        """The name of its node's container."""
        return f"{self.name}-control-plane"

    def exec(self, *command: str, timeout: float = 120) -> str:
        """Run a command in the node; kubectl is among them."""
        environment = ("-e", "KUBECONFIG=/etc/kubernetes/admin.conf")
        return self.engine.run("exec", *environment, self.node, *command, timeout=timeout)

    def left_behind(self) -> list[str]:
        """What runs left: data and the script in runc's place on the node, and objects."""
        found = self.exec(
            "bash",
            "-c",
            "ls -d /var/lib/kindcov /usr{,/local}/{s,}bin/*before-kindcov 2> /dev/null;"
            " ps -C perl -o args= || true",
        )
        left = set(self.exec(*OBJECTS).split()) - set(self.objects)
        if left:  # a namespace that was deleted takes some seconds to go
            gone = ("--for=delete", "--timeout=30s", *sorted(left))
            with contextlib.suppress(subprocess.SubprocessError):
                self.exec("kubectl", "wait", *gone)
            left = set(self.exec(*OBJECTS).split()) - set(self.objects)
        return [
            *(f"on the node: {line}" for line in found.splitlines()),
            *(f"object {name}" for name in sorted(left)),
        ]

    def clear(self) -> None:
        """Remove what runs deployed."""
        kinds = "deployments,statefulsets,daemonsets,jobs,pods"
        names = ("--all", "--grace-period=0", "--force", "--wait=false")
        self.exec("kubectl", "delete", kinds, *names)


def run(runner: Runner, place: Path, *args: str, cluster: Cluster | None = None) -> Result:
    """Run a repository's tests with coverage, and look what is left.

    Args:
        runner: of one engine.
        place: the repository.
        args: more of pytest's.
        cluster: use this one; without one the run makes its own.

    """
    on = [f"--kind-coverage-cluster={cluster.name}"] if cluster else []
    done = runner(place, "--kind-coverage", "-v", *on, *args)
    (place.parent / "pytest.log").write_text(done.output)
    left = runner.left_behind()
    if cluster:
        left += cluster.left_behind()
        cluster.clear()
    return Result(done.code, done.output, place, left)


class Launch(Protocol):
    """Runs a repository of the program of the faults; see `repository` and `run`."""

    def __call__(
        self,
        conftest: str,
        tests: str,
        *args: str,
        files: Mapping[str, str] = ...,
        cluster: Cluster | None = ...,
        env: Mapping[str, str] = ...,
    ) -> Result:
        """Run pytest once."""


def deployment(
    name: str,
    *,
    namespace: str = "",
    replicas: int = 1,
    container: Mapping[str, object] = {},
    pod: Mapping[str, object] = {},
) -> str:
    """The manifests of one service: a Deployment of the program, its Service, its namespace."""
    where = {"namespace": namespace} if namespace else {}
    one = {
        "name": name,
        "image": f"{name}:dev",
        "imagePullPolicy": "Never",
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        **container,
    }
    labels = {"app": name}
    objects: list[dict[str, object]] = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, **where},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [one], **pod}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, **where},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
    ]
    if namespace:
        metadata = {"name": namespace}
        objects.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return yaml.safe_dump_all(objects)


def conftest(*names: str) -> str:
    """A conftest with a service for each of these manifests, and the node as a fixture."""
    services = [
        f'{name} = go_service(".", name="{name}", manifests="{name}.yaml", image="{name}:dev",'
        " port=8080)"
        for name in names
    ]
    return "\n".join([_CONFTEST, *services, ""])


_CONFTEST = """
import pytest
from cluster import Node
from pytest_kindcov import go_service

@pytest.fixture
def node(kind_cluster):
    return Node(kind_cluster)
"""
