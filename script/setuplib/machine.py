"""The machine: its limits, its cgroups, its distribution and its packages."""

from __future__ import annotations

import os
import re
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from setuplib.steps import SBIN, SetupError, ask, must, step

CAP_SYS_RESOURCE = 24  # bit number, linux/capability.h
MOST_FILES = 1048576  # programs that close every possible descriptor crawl beyond this
APT_TIMEOUT = 900.0  # seconds: an engine and what it needs is about 100 MB
APT_LISTS_MAX_AGE = 86400.0  # seconds: older lists name versions that the mirror no longer has


@dataclass(frozen=True)
class Limits:
    """What this machine lets a container have."""

    nofile: int
    nproc: int
    raisable: bool  # CAP_SYS_RESOURCE is there: limits and OOM scores may be raised
    cgroup_v2: bool  # the unified hierarchy alone; a hybrid one counts as version 1
    systemd: bool  # booted by systemd: it then owns the cgroups of version 2


def read_limits() -> Limits:
    """Read the limits of this process, which are those of an engine that it starts."""
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    nproc = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    # Podman lowers its own limit to this, and more is refused to its containers from then on.
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    return Limits(
        nofile=MOST_FILES if nofile == resource.RLIM_INFINITY else min(nofile, MOST_FILES),
        nproc=pids if nproc == resource.RLIM_INFINITY else min(nproc, pids),
        raisable=has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE),
        cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        systemd=Path("/run/systemd/system").is_dir(),
    )


def has_capability(status: str, bit: int) -> bool:
    """Tell whether the bounding set in a /proc/PID/status text holds a capability."""
    found = re.search(r"^CapBnd:\s*([0-9a-fA-F]+)", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> bit & 1)


def is_root() -> bool:
    """Tell whether this process may install things."""
    return os.geteuid() == 0


def is_debian(os_release: str) -> bool:
    """Tell from an os-release text whether the distribution is Debian, Ubuntu or one of theirs."""
    words: set[str] = set()
    for line in os_release.splitlines():
        key, _, value = line.partition("=")
        if key in {"ID", "ID_LIKE"}:
            words.update(value.strip("\"'").split())
    return bool(words & {"debian", "ubuntu"})


def apt_refusal() -> str | None:
    """Say why packages cannot be installed here by apt; None where they can."""
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        release = ""
    if not is_debian(release) or which("apt-get") is None:
        return "this is neither Debian nor Ubuntu"
    return None if is_root() else "only root may install packages"


def which(name: str) -> str | None:
    """Find a program on PATH or in the system directories that a user's PATH lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    return shutil.which(name, path=path)


def lists_are_old(lists: Path, now: float) -> bool:
    """Tell whether apt's package lists are missing or too old to install from."""
    stamps = [path.stat().st_mtime for path in lists.glob("*_Packages*")]
    return not stamps or now - max(stamps) > APT_LISTS_MAX_AGE


def apt_command(packages: list[str], *, simulate: bool = False) -> list[str]:
    """Give the apt-get call that installs packages, or only looks whether it could."""
    how = ["--simulate"] if simulate else ["--yes", "-o", "DPkg::Lock::Timeout=120"]
    return ["apt-get", "install", "--no-install-recommends", *how, *packages]


def apt_knows(package: str) -> bool:
    """Tell whether apt could install a package."""
    return ask(apt_command([package], simulate=True), 30).code == 0


def apt_refresh() -> None:
    """Read the package lists anew, where they are missing or old."""
    if lists_are_old(Path("/var/lib/apt/lists"), time.time()):
        with step("reading the package lists (apt-get update)"):
            # One unreachable third-party source must not stop us: the install will tell.
            ask(["apt-get", "update"], 300)


def apt_install(packages: list[str], why: str) -> None:
    """Install packages, as root on Debian or Ubuntu.

    Raises SetupError with what to do by hand where that is not possible.
    """
    refusal = apt_refusal()
    by_hand = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if refusal is not None:
        raise SetupError(f"{why}, and {refusal}.\nRemedy (Debian, Ubuntu, as root): {by_hand}")
    apt_refresh()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {' '.join(packages)} ({why})"):
        must(apt_command(packages), APT_TIMEOUT, f"Remedy: find out why this fails: {by_hand}", env)


def version_of(text: str) -> tuple[int, ...]:
    """Give the first x.y[.z] in a text as numbers; () where there is none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part is not None) if found else ()
