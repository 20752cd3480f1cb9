"""Real engines and what Kind needs. Nothing here is faked; what is missing skips (fails in CI)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import ROOT, Runner, TestEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHED_KIND = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kindcov/bin/kind")


@pytest.fixture(scope="session")
def kind_bin() -> str:
    """Path of kind."""
    for candidate in (os.environ.get("KINDCOV_KIND_BIN"), shutil.which("kind"), str(CACHED_KIND)):
        if candidate and Path(candidate).exists():
            return candidate
    pytest.skip("kind is missing: run script/test")


@pytest.fixture(scope="session", params=["podman", "docker"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestEngine]:
    """Each engine; where no docker daemon runs, one of our own is started for the tests."""
    name = request.param
    if shutil.which(name) is None and name == "podman":
        pytest.skip(f"{name} is not installed")
    if name == "podman":
        yield TestEngine("podman", "podman", _environment("podman", {}))
        return
    state = tmp_path_factory.mktemp("docker")
    set_up = [sys.executable, str(ROOT / "script/setup.py"), "docker"]
    started = subprocess.run(
        [*set_up, "start", "--state", str(state), "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if started.returncode:
        pytest.skip(f"no docker daemon: {started.stderr[-500:]}")
    answer = json.loads(started.stdout.splitlines()[-1])
    try:
        yield TestEngine("docker", "docker", _environment("docker", answer["env"]))
    finally:
        if answer["own"]:
            stop = [*set_up, "stop", "--state", str(state)]
            subprocess.run(stop, timeout=120, check=True)


def _environment(name: str, extra: dict[str, str]) -> dict[str, str]:
    dropped = {"E2E_COVERAGE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"}
    dropped |= {"CI", "BUILD_NUMBER"}  # with these pytest shows more of an error in its summary
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {
        **kept,
        **extra,
        "KIND_EXPERIMENTAL_PROVIDER": name,
        "KINDCOV_ENGINE": name,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


@pytest.fixture(scope="session")
def node_image(engine: TestEngine) -> str:
    """A Kind node image in the engine's store; under docker it is moved there from podman."""
    reference = os.environ.get("KINDCOV_NODE_IMAGE") or _built()
    if _has(engine, reference):
        return reference
    if engine.name == "docker" and shutil.which("podman"):
        load = [engine.cli, "load"]
        with subprocess.Popen(["podman", "save", reference], stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, env=engine.env, timeout=300, check=True)
        assert save.returncode == 0
        return reference
    pytest.skip(f"no node image {reference}: run script/test")


def _built() -> str:
    command = [sys.executable, str(ROOT / "nodeimage/build.py"), "--print-tag"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip().splitlines()[-1]


def _has(engine: TestEngine, reference: str) -> bool:
    done = subprocess.run(
        [engine.cli, "image", "inspect", reference],
        env=engine.env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def runner(engine: TestEngine, node_image: str, kind_bin: str, tmp_path: Path) -> Runner:
    """Runs pytest against this engine, with its own directory for temporary files."""
    return Runner.within(tmp_path, engine, node_image, kind_bin)
