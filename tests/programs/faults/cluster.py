"""For the tests of a repository: requests to its services, and its node from within."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE = os.environ["KINDCOV_ENGINE"]
# The plugin reads five times a second; what ran before that must be in the total.
SEEN = 0.3


def get(service: Any, path: str, *, tries: int = 1) -> str:
    """Ask a service for something; it must answer. It answers with the name of its build."""
    for left in reversed(range(tries)):
        try:
            limit = 10 if tries > 1 else 60
            with urllib.request.urlopen(f"{service.url}/{path}", timeout=limit) as answer:
                assert answer.status == 200
                return str(answer.read().decode())
        except OSError:
            if not left:
                raise
            time.sleep(0.1)
    raise AssertionError


def break_off(service: Any, path: str) -> None:
    """Ask for something that the service may not live to answer."""
    with contextlib.suppress(OSError):
        get(service, path)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def hit(service: Any, name: str, times: int = 1, *, seen: bool = True) -> None:
    """Run a marked line some times, and wait until that must have been seen."""
    for _ in range(times):
        get(service, f"hit/{name}")
    if seen:
        time.sleep(SEEN)


class Node:
    """The node of the run's cluster."""

    def __init__(self, cluster: Any) -> None:
        self.name = f"{cluster.name}-control-plane"

    def engine(self, *words: str, check: bool = True) -> str:
        """Run the engine's command line."""
        done = subprocess.run(
            [ENGINE, *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the node."""
        environment = ("-e", "KUBECONFIG=/etc/kubernetes/admin.conf")
        return self.engine("exec", *environment, self.name, *command, check=check)

    def kubectl(self, *words: str) -> str:
        """Run kubectl."""
        return self.run("kubectl", *words)

    def pods(self, app: str) -> list[dict[str, Any]]:
        """The pods of an app."""
        found: list[dict[str, Any]] = json.loads(
            self.kubectl("get", "pods", "-A", "-l", f"app={app}", "-o", "json")
        )["items"]
        return found

    def kill(self, app: str) -> None:
        """Kill the program of an app's only pod, which may be new."""
        self.wait(app, begun)
        (pod,) = self.pods(app)
        (status,) = pod["status"]["containerStatuses"]
        container = status["containerID"].partition("://")[2]
        self.run("ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", container)

    def wait(self, app: str, what: Any, seconds: float = 60) -> None:
        """Wait until the pods of an app are as they should be."""
        deadline = time.monotonic() + seconds
        while not what(self.pods(app)):
            assert time.monotonic() < deadline, self.pods(app)
            time.sleep(0.2)


def begun(pods: list[dict[str, Any]]) -> bool:
    """Whether there is one pod, and its container was made."""
    statuses = [s for pod in pods for s in pod["status"].get("containerStatuses") or []]
    return len(pods) == 1 and bool(statuses) and all("containerID" in each for each in statuses)


def restarted(pods: list[dict[str, Any]]) -> bool:
    """Whether all pods run again after a restart."""
    return all(
        status["restartCount"] and status["ready"]
        for pod in pods
        for status in pod["status"].get("containerStatuses") or [{"restartCount": 0}]
    )
