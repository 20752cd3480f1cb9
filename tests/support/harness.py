"""What the tests on real clusters share: an engine, and pytest run as a user runs it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SECRET = "canary-in-the-environment"
"""A secret of the environment of each run; whatever a run prints or leaves must not have it."""
ONE_ENGINE = pytest.mark.parametrize("engine", ["podman"], indirect=True)
"""For what does not depend on the engine."""
DOCKER = pytest.mark.parametrize("engine", ["docker"], indirect=True)
"""For what is looked at under the other engine besides."""


@dataclass(frozen=True)
class TestEngine:
    """An engine that answers, and the environment by which its programs reach it."""

    __test__ = False

    name: str
    cli: str
    env: dict[str, str]

    def run(self, *args: str, timeout: float = 120) -> str:
        """Run the engine's command line and return what it printed."""
        done = subprocess.run(
            [self.cli, *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return done.stdout.strip()


@dataclass(frozen=True)
class Run:
    """A finished run of pytest in a service's repository."""

    code: int
    output: str

    def total(self) -> str:
        """The TOTAL line's percentage."""
        return next(
            line.split()[-1] for line in self.output.splitlines() if line.startswith("TOTAL")
        )


@dataclass(frozen=True)
class Runner:
    """Runs pytest as a user does, and sees what it leaves behind."""

    engine: TestEngine
    env: dict[str, str]
    tmp: Path
    started: list[int] = field(default_factory=list)

    @classmethod
    def within(cls, place: Path, engine: TestEngine, node_image: str, kind_bin: str) -> Runner:
        """A runner whose temporary files, state and kubeconfig are in a directory of its own."""
        tmp, home = place / "tmp", place / "home"
        tmp.mkdir()
        home.mkdir()
        env = {
            **engine.env,
            "KINDCOV_NODE_IMAGE": node_image,
            "KINDCOV_KIND_BIN": kind_bin,
            "TMPDIR": str(tmp),
            "KUBECONFIG": str(home / "kubeconfig"),
            "XDG_STATE_HOME": str(home / "state"),
            "A_TOKEN": SECRET,
        }
        return cls(engine, env, tmp)

    def command(self, *args: str) -> list[str]:
        """pytest's command line."""
        off = ("-p", "no:cacheprovider", "-p", "no:rerunfailures")  # the latter listens on a port
        return [sys.executable, "-m", "pytest", *off, *args]

    def __call__(self, directory: Path, *args: str, timeout: float = 400) -> Run:
        with subprocess.Popen(
            self.command(*args),
            cwd=directory,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            self.started.append(process.pid)
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=120)
        print(output)
        return Run(process.returncode, output)

    def left_behind(self) -> list[str]:
        """What our runs left: nodes, their volumes, networks, files, and processes.

        Other runs may go on beside the tests: a cluster's name holds the process id of its run.
        """
        label = "label=io.x-k8s.kind.cluster"
        ours = tuple(f"kindcov-{pid}-" for pid in self.started)
        names = self.engine.run("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()
        # podman's volumes bear the label; docker's are anonymous, but then the daemon is our own.
        volumes = self.engine.run("volume", "ls", "--format", "{{.Name}} {{.Labels}}").splitlines()
        unused = self.engine.run("volume", "ls", "--filter", "dangling=true", "-q").split()
        networks = self.engine.run("network", "ls", "--format", "{{.Name}}").split()
        return [
            *(name for name in names if name.startswith(ours)),
            *(f"volume {line}" for line in volumes if any(name in line for name in ours)),
            *(f"volume {line}" for line in volumes if line.strip() in unused),
            # xdist's workers make a directory for pytest's own tmp_path here.
            *(str(path) for path in self.tmp.iterdir() if not path.name.startswith("pytest-of-")),
            # Notes of who made which cluster.
            *(str(path) for path in (self.tmp.parent / "home/state").rglob("*") if path.is_file()),
            *(f"network {name}" for name in networks if name.startswith(ours)),
            *(str(path) for path in [Path(self.env["KUBECONFIG"])] if path.exists()),
            *self.processes(),
            *(
                f"the secret in {path}"
                for path in self._written()
                if SECRET.encode() in path.read_bytes()
            ),
        ]

    def _written(self) -> list[Path]:
        """Files that are there after a run, its repository's and its reports included."""
        everything = self.tmp.parent.rglob("*")
        return [path for path in everything if path.is_file() and not path.is_symlink()]

    def processes(self) -> list[str]:
        """What our runs started and still runs: it has our directory for temporary files."""
        found = []
        mark = f"TMPDIR={self.tmp}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"process {process.name}: {words}")
        return found


def kindcov(runner: Runner, directory: Path, *words: str) -> tuple[int, str]:
    """The console script: its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_kindcov", *words],
        cwd=directory,
        env=runner.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    print(f"$ kindcov {' '.join(words)}\n{done.stdout}")
    return done.returncode, done.stdout
