"""Where figures are measured: the engine, clusters, repositories, and pytest as a user runs it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BENCH = Path(__file__).parent
EXAMPLE = BENCH.parent / "examples" / "orders"
MEMORY = 300.0
"""MB that a process of ours may have at most."""
CONFTEST = """
import probe
from pytest_kindcov import go_service

probe.watch()
orders = go_service(
    "./cmd/orders", manifests="deploy/", image="registry.example/orders:dev", port=8080
)
"""
"""A conftest as the example's, by which what attribution costs is noted as well."""


@dataclass(frozen=True)
class Notes:
    """What a run of pytest noted of itself, see `probe.NOTES`, and what it printed."""

    values: dict[str, Any]
    output: str

    @property
    def ended(self) -> float:
        """Seconds from the end of the last test until all reports were written."""
        return float(self.values["reports"] - self.values["last"])


@dataclass(frozen=True)
class Cluster:
    """A cluster, which was made for the bench by kind alone."""

    name: str
    kubeconfig: Path

    @property
    def node(self) -> str:
        """Its control plane's container."""
        return f"{self.name}-control-plane"


@dataclass
class Bench:
    """Where figures are measured.

    Args:
        pairs: how many of each figure.
        scratch: a directory for everything.

    Attributes:
        peaks: MB of memory that each pytest process of the figure had at most.

    """

    pairs: int
    scratch: Path
    engine: str = field(default_factory=lambda: os.environ.get("KINDCOV_ENGINE", "docker"))
    kind: str = field(default_factory=lambda: os.environ.get("KINDCOV_KIND_BIN", "kind"))
    image: str = field(default_factory=lambda: os.environ.get("KINDCOV_NODE_IMAGE", ""))
    peaks: list[float] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _number: int = 0

    @property
    def rounds(self) -> int:
        """How often each point of a curve is measured: a curve has many."""
        return min(self.pairs, 3)

    @property
    def _state(self) -> Path:
        return self.scratch / "state"

    def close(self) -> None:
        """Delete the cluster that figures shared; who wants it again gets a new one."""
        self._stack.close()
        self.__dict__.pop("shared", None)

    def directory(self, name: str) -> Path:
        """A new directory."""
        self._number += 1
        made = self.scratch / f"{self._number}-{name}"
        made.mkdir()
        return made

    def say(self, text: str) -> None:
        """Tell what is going on."""
        print(f"bench: {text}", file=sys.stderr, flush=True)

    @functools.cached_property
    def kubectl(self) -> Path:
        """The node image's kubectl: it fits the cluster. The machine's own for kind's image."""
        if not self.image:
            found = shutil.which("kubectl")
            if found is None:
                raise RuntimeError(
                    "no kubectl: name a node image that is there: KINDCOV_NODE_IMAGE"
                )
            return Path(found)
        target = self.scratch / "kubectl"
        container = hand.call([self.engine, "create", self.image]).strip()
        try:
            hand.call([self.engine, "cp", f"{container}:/usr/bin/kubectl", target])
        finally:
            hand.call([self.engine, "rm", "-v", container])
        return target

    def kubectl_for(self, cluster: Cluster, namespace: str) -> list[str | Path]:
        """The beginning of a command of kubectl."""
        return [self.kubectl, "--kubeconfig", cluster.kubeconfig, "-n", namespace]

    @property
    def kind_env(self) -> dict[str, str]:
        """For commands of kind."""
        return {"KIND_EXPERIMENTAL_PROVIDER": self.engine}

    @contextlib.contextmanager
    def cluster(self, nodes: int = 1) -> Iterator[Cluster]:
        """A cluster whose nodes are Ready; deleted in the end."""
        directory = self.directory("cluster")
        self._number += 1
        name = f"kindcov-bench-{os.getpid()}-{self._number}"
        kubeconfig = directory / "kubeconfig"
        words = ["--name", name, "--kubeconfig", str(kubeconfig)]
        config = directory / "kind.yaml"
        roles = "- role: control-plane\n" + "- role: worker\n" * (nodes - 1)
        config.write_text(f"kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n{roles}")
        create = [self.kind, "create", "cluster", *words, "--config", str(config), "--wait", "180s"]
        try:
            hand.call([*create, *self.image_words], env=self.kind_env)
            yield Cluster(name, kubeconfig)
        finally:
            self.delete(name)

    def delete(self, cluster: str) -> None:
        """Delete a cluster, if it is there."""
        words = ["--name", cluster, "--kubeconfig", str(self.scratch / "none")]
        hand.call([self.kind, "delete", "cluster", *words], env=self.kind_env)

    @property
    def kept(self) -> list[str]:
        """The clusters that runs of pytest kept."""
        end = f".{self.engine}.json"
        notes = (self._state / "kindcov" / "clusters").glob(f"*{end}")
        return [note.name.removesuffix(end) for note in notes]

    @property
    def image_words(self) -> list[str]:
        """Of kind's command lines."""
        return ["--image", self.image] if self.image else []

    @functools.cached_property
    def shared(self) -> Cluster:
        """A cluster of one node for all figures that need no new one."""
        self.say("creating a cluster that figures share")
        return self._stack.enter_context(self.cluster())

    def repository(self, conftest: str = "", tests: str = "") -> Path:
        """A copy of the example.

        Args:
            conftest: instead of its own.
            tests: instead of its own.

        """
        target = self.directory("repository") / "orders"
        shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns(".kindcov", "__pycache__"))
        # Fifty of them are to fit on a node.
        manifest = target / "deploy" / "deployment.yaml"
        manifest.write_text(manifest.read_text().replace("cpu: 50m", "cpu: 1m"))
        if conftest:
            (target / "conftest.py").write_text(conftest)
        if tests:
            shutil.rmtree(target / "tests")
            (target / "tests/e2e").mkdir(parents=True)
            (target / "tests/e2e/test_bench.py").write_text(tests)
        return target

    def pytest(self, repository: Path, *arguments: str, **env: str) -> Notes:
        """Run pytest in a repository, to its end.

        Args:
            repository: a directory.
            arguments: of pytest.
            env: more variables.

        Returns:
            What it noted. Its peak of memory is kept as well.

        """
        file = repository / "notes.json"
        file.unlink(missing_ok=True)
        path = os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])
        # It listens on a port.
        plugins = ["-p", "probe", "-p", "no:rerunfailures"]
        output = hand.call(
            [sys.executable, "-m", "pytest", "-q", *plugins, *arguments],
            repository,
            {
                **env,
                "PYTHONPATH": path,
                "KINDCOV_BENCH_NOTES": str(file),
                "XDG_STATE_HOME": str(self._state),
            },
            timeout=1800,
        )
        notes = Notes(json.loads(file.read_text()), output)
        self.peaks.append(notes.values["peak"])
        return notes

    def ours(self, repository: Path, *arguments: str, **env: str) -> Notes:
        """Run pytest with coverage on the cluster that figures share."""
        attached = f"--kind-coverage-cluster={self.shared.name}"
        return self.pytest(repository, "--kind-coverage", attached, *arguments, **env)

    def describe(self) -> dict[str, str]:
        """The machine, in words for a table."""
        found = {
            "cores": str(os.cpu_count()),
            "Python": platform.python_version(),
            "Go": _version(["go", "version"]),
            "kind": _version([self.kind, "version"]),
            self.engine: _version([self.engine, "--version"]),
        }
        return {name: value for name, value in found.items() if value}


def timed(command: Sequence[str | Path], cwd: Path) -> tuple[float, float, str]:
    """Seconds that a process takes, its peak of memory in MB, and what it printed.

    The peak is at least what this process has: a child begins as its copy.
    """
    log = cwd / "bench.log"
    path = os.pathsep.join([str(BENCH), os.environ.get("PYTHONPATH", "")])
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )
        limit = threading.Timer(hand.LIMIT, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
    spent = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{log.read_text()}")
    return spent, usage.ru_maxrss * 1024 / 1e6, log.read_text()


def _version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else ""
