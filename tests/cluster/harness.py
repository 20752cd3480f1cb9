"""What the tests on real clusters share: an engine, and pytest run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ONE_ENGINE = pytest.mark.parametrize("engine", ["podman"], indirect=True)
"""For what does not depend on the engine."""


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

    def command(self, *args: str) -> list[str]:
        """pytest's command line."""
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]

    def __call__(self, directory: Path, *args: str, timeout: float = 400) -> Run:
        done = subprocess.run(
            self.command(*args),
            cwd=directory,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        print(done.stdout)
        return Run(done.returncode, done.stdout)

    def left_behind(self) -> list[str]:
        """Containers, volumes and temporary files of runs, and processes with their names."""
        label = "label=io.x-k8s.kind.cluster"
        containers = self.engine.run("ps", "-a", "--filter", label, "--format", "{{.Names}}")
        volumes = self.engine.run("volume", "ls", "--format", "{{.Name}}")
        processes = subprocess.run(
            ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
        ).stdout
        return [
            *(name for name in containers.split() if name.startswith("kindcov-")),
            *(f"volume {name}" for name in volumes.split()),
            # xdist's workers make a directory for pytest's own tmp_path here.
            *(str(path) for path in self.tmp.iterdir() if not path.name.startswith("pytest-of-")),
            *(line for line in processes.splitlines() if "create cluster --name kindcov-" in line),
        ]
