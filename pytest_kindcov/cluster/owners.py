"""Which run has which cluster: a small file for each, in the user's state directory, and a lock.

The engine cannot be asked: kind gives its containers no label but the cluster's name. And the name
alone, which holds a process id, does not say it: other machines and containers, whose processes
nobody sees here, may use the same engine. The lock is the kernel's: it dies with its holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.engine import Engine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_ENDPOINTS = ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION")
_PS = 10.0  # seconds
_locks: dict[Path, int] = {}
"""Open lock files of this process."""


@dataclass(frozen=True)
class Owner:
    """A run that made a cluster, or uses one.

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
        kept: whether the cluster was to stay, and no run has it now.
        attached: whether it was there before the run, which is to give it back as it was.
        reach: how a cluster is reached that no engine has: see `External.reach`.
        before: what was noted of such a cluster before, as plain values; None: nothing.
        key: what it was made from, by name of the part; empty where nobody may take it.

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
    attached: bool = False
    reach: dict[str, str] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    key: dict[str, str] = field(default_factory=dict)

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

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"a run that is dead: process {self.pid}, {since}, {self.project}"

    def is_of(self, engine: Engine) -> bool:
        """Whether its cluster is one of this engine's."""
        return (self.engine, self.endpoint) == (engine.name, _endpoint(engine))


def claim(
    cluster: str,
    engine: Engine,
    scratch: Path | None = None,
    *,
    attached: bool = False,
    key: dict[str, str] | None = None,
    reach: dict[str, str] | None = None,
) -> bool:
    """Take a cluster for this process, before it is made or used, until it is released or kept.

    Returns:
        Whether it could be noted. Where nothing can be written, others do not know.

    Raises:
        ClusterError: another run has it.

    """
    if not _NAME.fullmatch(cluster):
        return False
    locked = _lock(_file(cluster, engine.name, "lock"))
    pid, last = os.getpid(), owners(engine).get(cluster)
    if not locked or (last and last.pid != pid and not last.kept and last.alive()):
        raise _in_use(cluster, last)
    before = None
    if attached and last:
        before = last.before if last.attached else asdict(last)
    owner = Owner(
        cluster=cluster,
        engine=engine.name,
        endpoint=_endpoint(engine),
        pid=pid,
        started=started(pid),
        machine=machine(),
        scratch=str(scratch or ""),
        project=str(Path.cwd()),
        since=time.time(),
        attached=attached,
        reach=reach or {},
        before=before,
        key=key or {},
    )
    return _write(owner)


def _in_use(cluster: str, owner: Owner | None) -> ClusterError:
    """The error that names who has a cluster."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(owner.since if owner else 0))
    return ClusterError(
        f"cluster {cluster} is in use",
        cause=f"process {owner.pid} has it since {since}, in {owner.project}"
        if owner
        else "another process has its lock",
        remedy="wait until that run is over, or use another cluster",
        slug="cluster-in-use",
    )


def keep(cluster: str, engine: Engine) -> None:
    """Note that a cluster of this process is to stay, and that the next run may have it."""
    owner = owners(engine).get(cluster)
    if owner is not None:
        _write(replace(owner, kept=True, scratch=""))
        _unlock(_path(owner, "lock"))


def give_back(cluster: str, engine: Engine) -> None:
    """Note that a cluster was given back: it is whose it was before.

    While its ledger is there it was not: then that stays noted, and others may do it.
    """
    owner = owners(engine).get(cluster)
    if owner is None or not ledger(cluster, engine).exists():
        if owner is None or owner.before is None:
            release(cluster, engine)
            return
        with contextlib.suppress(ValueError, TypeError, KeyError):
            _write(_owner(owner.before))
    _unlock(_file(cluster, engine.name, "lock"))


def release(cluster: str, engine: Engine) -> None:
    """Forget a cluster: it is gone, or was never ours."""
    if not _NAME.fullmatch(cluster):
        return
    for suffix in ("ledger", "json"):
        with contextlib.suppress(OSError):
            _file(cluster, engine.name, suffix).unlink()
    _unlock(_file(cluster, engine.name, "lock"))


def ledger(cluster: str, engine: Engine) -> Path:
    """The file for what a run changes on a cluster that it must give back."""
    return _file(cluster, engine.name, "ledger")


def owners(engine: Engine | None = None) -> dict[str, Owner]:
    """All that is noted, by cluster; what cannot be read is left out.

    Args:
        engine: whose clusters; None: of all engines.

    """
    found = {}
    for path in sorted(_directory().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            owner = _owner(json.loads(path.read_text()))
            if path != _path(owner, "json") or len(owner.machine) != 3:
                continue
            if engine is None or owner.is_of(engine):
                found[owner.cluster] = owner
    return found


def _lock(path: Path) -> bool:
    """Take a lock for as long as this process lives; whether nobody else has it."""
    while path not in _locks:
        try:
            _make_directory()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True  # nothing can be written here: nobody is locked out
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            os.close(descriptor)
            return True
        with contextlib.suppress(FileNotFoundError):  # its holder removed it meanwhile: again
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                _locks[path] = descriptor
                return True
        os.close(descriptor)
    return True


def _unlock(path: Path) -> None:
    """Let go of a lock, and remove its file; also a dead process's."""
    if path.exists():
        _lock(path)
    descriptor = _locks.pop(path, None)
    if descriptor is not None:
        path.unlink(missing_ok=True)
        os.close(descriptor)


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


def _endpoint(engine: Engine) -> str:
    if engine.external:  # the name says which cluster it is
        return ""
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


def _owner(values: dict[str, Any]) -> Owner:
    return Owner(**{**values, "machine": tuple(values["machine"])})


def _path(owner: Owner, suffix: str) -> Path:
    return _file(owner.cluster, owner.engine, suffix)


def _file(cluster: str, engine: str, suffix: str) -> Path:
    return _directory() / f"{cluster}.{engine}.{suffix}"


def _make_directory() -> None:
    directory = _directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)


def _write(owner: Owner) -> bool:
    if not _NAME.fullmatch(owner.cluster):
        return False
    partial = _directory() / f".{owner.cluster}.{os.getpid()}"
    try:
        _make_directory()
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            json.dump(asdict(owner), file)
        partial.rename(_path(owner, "json"))
    except OSError:
        return False
    return True
