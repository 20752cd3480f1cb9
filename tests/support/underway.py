"""A run of pytest that goes on while something is done to it, and the phases that it is in."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from faulttable import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faulttable import Cluster
    from harness import Runner

_REACH = 240.0  # seconds until a phase: a cluster on a machine that is busy takes two minutes
_END = 150.0


@contextlib.contextmanager
def held(
    runner: Runner, repository: Path, hold: str, *args: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose test is under way, for as long as a file is there; killed at the end.

    Args:
        runner: of one engine.
        repository: its test makes a file `asked`, and goes on while there is `hold`.
        hold: name of that file.
        args: of pytest.

    """
    (repository / hold).touch()
    (repository / "asked").unlink(missing_ok=True)
    with subprocess.Popen(runner.command(*args), cwd=repository, env=runner.env) as process:
        try:
            deadline = time.monotonic() + 200
            while not (repository / "asked").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            (repository / hold).unlink(missing_ok=True)


class Underway:
    """A run with coverage, in a process group of its own, as a terminal starts it.

    Args:
        runner: of one engine.
        where: the repository.
        args: more of pytest's.
        cluster: use this one; without one the run makes its own.

    """

    def __init__(
        self, runner: Runner, where: Path, *args: str, cluster: Cluster | None = None
    ) -> None:
        self.runner, self.where, self._cluster = runner, where, cluster
        on = [f"--kind-coverage-cluster={cluster.name}"] if cluster else []
        self._log = where.parent / f"log-{len(runner.started)}"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                runner.command("--kind-coverage", "-v", *on, *args),
                cwd=where,
                env=runner.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell ignores it in what it runs in the background, and that is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (one thread)
            )
        runner.started.append(self.process.pid)

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def reach(self, phase: str) -> None:
        """Wait until it is in a phase."""
        seen = PHASES[phase]
        deadline = time.monotonic() + _REACH
        while not seen(self):
            assert self.process.poll() is None, f"it never was {phase}:\n{self.output}"
            assert time.monotonic() < deadline, f"it never was {phase}:\n{self.output}"
            time.sleep(0.01)

    def send(self, number: int, *, group: bool) -> None:
        """Send a signal to its first process, or to all of its group."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def listening(self) -> list[str]:
        """Ports on which its processes listen, or take datagrams. The engine's own are left out.

        Raises:
            AssertionError: no socket of any kind was found, so that nothing was looked at.

        """
        inodes: dict[str, str] = {}
        for each in self.runner.processes():
            pid = each.split()[1].rstrip(":")
            for link in Path(f"/proc/{pid}/fd").glob("*") if "conmon" not in each else ():
                with contextlib.suppress(OSError):
                    inodes[str(link.readlink())] = each
        found = []
        for table, state in {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}.items():
            rows = [row.split() for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
            found += [
                f"{table} {row[1]}: {inodes[f'socket:[{row[9]}]']}"
                for row in rows
                if row[3] == state and f"socket:[{row[9]}]" in inodes
            ]
        assert any(inode.startswith("socket:") for inode in inodes)
        return found

    def wait(self) -> Result:
        """Wait for its end, and look what it left."""
        try:
            self.process.wait(_END)
        finally:
            self.kill()
            print(self.output)
        left = self.runner.left_behind()
        if self._cluster:
            left += self._cluster.left_behind()
            self._cluster.clear()
        return Result(self.process.returncode, self.output, self.where, left)

    def kill(self) -> None:
        """End it hard, if it goes on."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL, group=True)
            self.process.wait()


def _runs(words: str) -> Callable[[Underway], bool]:
    """Whether the run has a process with these words."""
    return lambda run: any(re.search(words, each) for each in run.runner.processes())


def _in_node(run: Underway) -> bool:
    """Whether the service's program runs, in the node; its processes are the host's too."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().rstrip(b"\0") == b"/unready":
                return True
    return False


PHASES: dict[str, Callable[[Underway], bool]] = {
    "building": _runs("/compile -o"),
    "creating": _runs("create cluster --name"),
    "creating late": _runs("kubeadm init"),
    "loading": _runs("images import"),
    "deploying": _in_node,
    "testing": lambda run: (run.where / "asked").exists(),
    "harvesting": lambda run: "harvesting coverage" in run.output,
    "deleting": _runs("delete cluster --name"),
}
