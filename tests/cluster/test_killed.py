"""A run that is killed: its cluster is named, its coverage saved, and all that it left removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from harness import ONE_ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Runner

GO_MOD = "module example.com/m\n\ngo 1.23\n"
WEB = """package main

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func asked(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("yes"))
}

func never(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("no"))
}

func main() {
	http.HandleFunc("/asked", asked)
	http.HandleFunc("/never", never)
	go http.ListenAndServe(":8080", nil)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
"""
CONFTEST = """
from pytest_kindcov import go_service

web = go_service("./cmd/web", port=8080)
"""
TEST = """
import pathlib, time, urllib.request

def test_it(web):
    assert urllib.request.urlopen(web.url + "/asked", timeout=10).read() == b"yes"
    pathlib.Path("asked").touch()
    time.sleep(600)
"""


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


def counts(profile: Path) -> dict[str, int]:
    """Blocks of a text profile, by begin, that ran or did not."""
    lines = profile.read_text().splitlines()[1:]
    return {
        line.split()[0].split(",")[0].rpartition("/")[2]: int(line.split()[2]) for line in lines
    }


@ONE_ENGINE
def test_killed_run(runner: Runner, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "cmd/web").mkdir(parents=True)
    (repository / "go.mod").write_text(GO_MOD)
    (repository / "cmd/web/main.go").write_text(WEB)
    (repository / "conftest.py").write_text(CONFTEST)
    (repository / "test_it.py").write_text(TEST)
    killed = subprocess.Popen(
        runner.command("--kind-coverage"), cwd=repository, env=runner.env, start_new_session=True
    )
    runner.started.append(killed.pid)
    try:
        deadline = time.monotonic() + 300
        while not (repository / "asked").exists():
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (note,) = (tmp_path / "home/state/kindcov/clusters").glob("*.json")
        name = json.loads(note.read_text())["cluster"]
        # It lives: nobody may take its coverage or its cluster.
        code, output = kindcov(runner, repository, "doctor", "--remove")
        assert code == 0
        assert name not in output
        code, output = kindcov(runner, repository, "harvest", "--cluster", name)
        assert code == 1
        assert f"process {killed.pid}" in output
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.wait()

    code, output = kindcov(runner, repository, "doctor")
    assert code == 0
    assert f"warn  orphans: cluster {name} (podman) of a run that is dead" in output
    assert name in str(runner.left_behind())

    # A node that is stopped still has its files, though not what ran when it was.
    code, output = kindcov(runner, repository, "harvest", "--cluster", name)
    assert code == 0, output
    assert "1 container" in output
    found = counts(repository / ".kindcov/coverage.out")
    by_line = {key.partition(":")[2].partition(".")[0]: count for key, count in found.items()}
    assert by_line["10"] == 1  # asked: the service was stopped, and wrote it
    assert by_line["14"] == 0  # never
    assert by_line["18"] == 1  # main
    assert not (repository / ".kindcov/.coverage").exists()

    runner.engine.run("stop", "--time", "1", f"{name}-control-plane")
    code, output = kindcov(runner, repository, "harvest", "--cluster", name, "--dir", "stopped")
    assert "the services could not be stopped (no node runs)" in output
    # Also of the pod that came in the place of the one that was stopped.
    assert {key for key, count in counts(repository / "stopped/coverage.out").items() if count} == {
        key for key, count in found.items() if count
    }
    assert code == 0

    code, output = kindcov(runner, repository, "doctor", "--remove")
    assert f"removed cluster {name}" in output
    assert code == 0
    assert runner.left_behind() == []
