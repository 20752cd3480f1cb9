"""Which run made which cluster: a small file for each, in the user's state directory.

The engine cannot be asked: kind gives its containers no label but the cluster's name. And the name
alone, which holds a process id, does not say it: other machines and containers, whose processes
nobody sees here, may use the same engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindcov.cluster.engine import Engine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_ENDPOINTS = ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION")
_PS = 10.0  # seconds


@dataclass(frozen=True)
class Owner:
    """A run that made a cluster.

    Args:
        cluster: its name.
        engine: `docker` or `podman`.
        endpoint: where that engine is, as the environment says; empty for the usual place.
        pid: of the run's process.
        started: when that process began, as its system says it.
        machine: the machine, since its last start, and the namespace in which the id counts.
        scratch: the run's own temporary directory; empty when there is none.
        project: the directory that the run was in.
        since: seconds since 1970.
        kept: whether the cluster was to stay.

    """

    cluster: str
    engine: str
    endpoint: str
    pid: int
    started: str
    machine: tuple[str, ...]
    scratch: str = ""
    project: str = ""
    since: float = 0.0
    kept: bool = False

    def alive(self) -> bool | None:
        """Whether the run goes on; None when that cannot be known from here."""
        host, boot, namespace = self.machine
        here = machine()
        if host != here[0]:
            return None  # the home directory is another machine's too
        if boot != here[1]:
            return False
        if namespace != here[2]:
            return None
        return self.started != "" and started(self.pid) == self.started

    def is_of(self, engine: Engine) -> bool:
        """Whether its cluster is one of this engine's."""
        return (self.engine, self.endpoint) == (engine.name, _endpoint())


def claim(cluster: str, engine: Engine, scratch: Path | None = None) -> bool:
    """Note that this process makes a cluster, before it does.

    Returns:
        Whether it could be noted. Nothing depends on it but that others know.

    """
    pid = os.getpid()
    owner = Owner(
        cluster=cluster,
        engine=engine.name,
        endpoint=_endpoint(),
        pid=pid,
        started=started(pid),
        machine=machine(),
        scratch=str(scratch or ""),
        project=str(Path.cwd()),
        since=time.time(),
    )
    return _write(owner)


def keep(cluster: str) -> None:
    """Note that a cluster of this process is to stay."""
    owner = owners().get(cluster)
    if owner is not None:
        _write(Owner(**{**asdict(owner), "kept": True, "scratch": ""}))


def release(cluster: str) -> None:
    """Forget a cluster: it is gone."""
    if _NAME.fullmatch(cluster):
        with contextlib.suppress(OSError):
            (_directory() / f"{cluster}.json").unlink()


def owners() -> dict[str, Owner]:
    """All that is noted, by cluster; what cannot be read is left out."""
    found = {}
    for path in sorted(_directory().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads(path.read_text())
            owner = Owner(**{**values, "machine": tuple(values["machine"])})
            if owner.cluster == path.stem and len(owner.machine) == 3:
                found[owner.cluster] = owner
    return found


def started(pid: int) -> str:
    """When a process began, as its system says it; empty when it is gone, or only waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if platform.system() == "Linux":
            return ""
        done = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=_PS,
            check=False,
        )
        fields = done.stdout.split()
        return "" if fields[:1] == [] or fields[0].startswith("Z") else " ".join(fields[1:])
    return "" if fields[0] in "ZX" else fields[19]


@cache
def machine() -> tuple[str, str, str]:
    """Which machine it is, since which start, and the namespace of its process ids."""

    def read(path: str) -> str:
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
        return ""

    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    host = read("/etc/machine-id") or platform.node()
    return host, read("/proc/sys/kernel/random/boot_id"), namespace


def _endpoint() -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in _ENDPOINTS if os.environ.get(name))


def _directory() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117 (others are to be ignored, says the XDG specification)
        return Path(base, "kindcov", "clusters")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no entry for the user
        return Path(tempfile.gettempdir(), f"kindcov-of-{os.getuid()}", "clusters")
    return home / ".local" / "state" / "kindcov" / "clusters"


def _write(owner: Owner) -> bool:
    if not _NAME.fullmatch(owner.cluster):
        return False
    directory = _directory()
    partial = directory / f".{owner.cluster}.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            json.dump(asdict(owner), file)
        partial.rename(directory / f"{owner.cluster}.json")
    except OSError:
        return False
    return True
