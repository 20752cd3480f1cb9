"""What can be known before a cluster is made: it costs milliseconds, and saves minutes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pytest_kindcov.errors import Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.cluster.engine import Engine

OK, WARN, FAIL = "ok", "warn", "fail"

# A node was seen to hold 22 inotify instances, and other programs of the host hold some too.
_INSTANCES = 256
_WATCHES = 65_536
# Bytes. A control plane was seen to use 0.6 GB of memory and a worker 0.2 GB, without any service;
# a node's volume 0.5 GB of disk.
_MEMORY = 1_500_000_000
_DISK_LOW = 3_000_000_000
_DISK_FULL = 300_000_000
_KEYS = 1000
_GB = 1_000_000_000
_NO_CGROUP_V1 = (1, 35)
"""The Kubernetes version from which on the kubelet refuses cgroup v1."""


@dataclass(frozen=True)
class Check:
    """One look at the machine.

    Args:
        name: what was looked at.
        level: `ok`, `warn` or `fail`: a cluster can certainly not be made.
        line: what was found.
        remedy: what the user can do, if it is not ok.
        slug: its name in `docs/messages.md`, if it is not ok.

    """

    name: str
    level: str
    line: str
    remedy: str = ""
    slug: str = ""


def gate(engine: Engine, image: str, config: str | Path | None) -> list[str]:
    """Before each creation: what certainly is in the way ends it here.

    Returns:
        Lines about what may be in the way, for the error if the creation fails.

    Raises:
        Unfit: a cluster cannot be made on this machine, and why.

    """
    checks = host(engine, kubernetes_of(image), Path(config) if config else None)
    for check in checks:
        if check.level == FAIL:
            raise Unfit(
                f"no cluster can be made here ({engine.name}): {check.name}",
                cause=check.line,
                remedy=check.remedy,
                slug=check.slug,
            )
    return [
        f"before it: {check.name}: {check.line}; {check.remedy} [{check.slug}]"
        for check in checks
        if check.level == WARN
    ]


def host(engine: Engine, kubernetes: tuple[int, int] | None, config: Path | None) -> list[Check]:
    """The cheap checks: no command is run.

    Args:
        engine: as `detect` found it, with its `info`.
        kubernetes: major and minor version of the node image; None if it is not known.
        config: kind's config file.

    """
    text = config.read_text(errors="replace") if config is not None and config.is_file() else ""
    checks = [_cgroup(engine.info, kubernetes, text)]
    storage = _field(engine.info, "graphRoot|Docker Root Dir")
    # An engine in a virtual machine or on another host has limits of its own.
    if sys.platform == "linux" and storage and Path(storage).is_dir():
        checks += [_disk(storage), _memory(), *_inotify(), *_keys()]
        if engine.name == "podman":
            checks += _modules()
    if config is not None:
        checks.append(ports(config))
    return checks


def kubernetes_of(image: str) -> tuple[int, int] | None:
    """The Kubernetes version that a node image's tag names: `kindest/node:v1.34.0`."""
    match = re.search(r":v(\d+)\.(\d+)\.\d+", image)
    return (int(match[1]), int(match[2])) if match else None


def ports(config: Path) -> Check:
    """Whether the ports that a kind config publishes are free."""
    try:
        content: Any = yaml.safe_load(config.read_text(errors="replace"))
        wanted = sorted(set(_published(content)))
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        remedy = "mend the file that --kind-coverage-kind-config names"
        return Check("kind config", FAIL, f"{config}: {told}", remedy, "kind-config-invalid")
    taken = [f"{address}:{port}" for address, port in wanted if not _free(address, port)]
    if taken:
        remedy = "`ss -ltnp` shows by whom; `hostPort: 0` lets the engine choose a free one"
        return Check("ports", FAIL, f"in use: {', '.join(taken)}", remedy, "port-taken")
    return Check("ports", OK, f"{len(wanted)} published, all free")


def cgroup(info: str) -> str:
    """The host's cgroup version by an engine's `info`: `1` or `2`, empty if it does not say it."""
    return _field(info, "cgroupVersion|Cgroup Version").lstrip("v")


def _cgroup(info: str, kubernetes: tuple[int, int] | None, config: str) -> Check:
    version = cgroup(info)
    rootless = "rootless: true" in info or "\n  rootless\n" in info
    if version != "1":
        return Check("cgroup", OK, f"v{version}" if version else "version not known")
    if rootless:
        remedy = "run the engine as root, or boot the host with cgroup v2"
        line = "v1, with a rootless engine"
        return Check("cgroup", FAIL, line, remedy, "rootless-needs-cgroup-v2")
    if kubernetes is not None and kubernetes >= _NO_CGROUP_V1 and "failCgroupV1" not in config:
        remedy = (
            "a node image of Kubernetes 1.34, or a kubeadmConfigPatch with"
            " `kind: KubeletConfiguration`, `failCgroupV1: false`"
        )
        line = f"v1, but the node image has Kubernetes {kubernetes[0]}.{kubernetes[1]}"
        return Check("cgroup", FAIL, line, remedy, "kubelet-refuses-cgroup-v1")
    return Check("cgroup", OK, "v1: enough for Kubernetes up to 1.34")


def _disk(storage: str) -> Check:
    free = shutil.disk_usage(storage).free
    line = f"{free / _GB:.1f} GB free in {storage}"
    remedy = "`docker system prune` or `podman system prune`; a cluster needs 3 GB"
    if free < _DISK_FULL:
        return Check("disk", FAIL, line, remedy, "disk-full")
    return (
        Check("disk", WARN, line, remedy, "disk-low")
        if free < _DISK_LOW
        else Check("disk", OK, line)
    )


def _memory() -> Check:
    match = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    if not match:
        return Check("memory", OK, "not known")
    free = int(match[1]) * 1024
    line = f"{free / _GB:.1f} GB available"
    if free < _MEMORY:
        remedy = "a cluster needs 2 GB with its services, better 4: end what else runs"
        return Check("memory", WARN, line, remedy, "memory-low")
    return Check("memory", OK, line)


def _inotify() -> list[Check]:
    directory = "/proc/sys/fs/inotify"
    instances = _number(_read(f"{directory}/max_user_instances"))
    watches = _number(_read(f"{directory}/max_user_watches"))
    if not instances or not watches:
        return []
    line = f"{instances} instances, {watches} watches"
    if instances < _INSTANCES or watches < _WATCHES:
        remedy = "`sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288`"
        return [Check("inotify", WARN, line, remedy, "inotify-low")]
    return [Check("inotify", OK, line)]


def _keys() -> list[Check]:
    name = "root_maxkeys" if os.geteuid() == 0 else "maxkeys"
    keys = _number(_read(f"/proc/sys/kernel/keys/{name}"))
    if keys and keys < _KEYS:
        line = f"{keys} keys of the kernel for each user; each container takes one"
        return [Check("keys", WARN, line, f"`sysctl kernel.keys.{name}=2000`", "keys-low")]
    return []


def _modules() -> list[Check]:
    if Path("/lib/modules").is_dir():
        return []
    line = "/lib/modules does not exist, and podman mounts only what does"
    return [Check("mounts", FAIL, line, "`mkdir -p /lib/modules`", "mount-source-missing")]


def _published(config: Any) -> list[tuple[str, int]]:
    networking = config.get("networking") or {}
    found = [(networking.get("apiServerAddress") or "127.0.0.1", networking.get("apiServerPort"))]
    for node in config.get("nodes") or []:
        found += [
            (mapping.get("listenAddress") or "0.0.0.0", mapping.get("hostPort"))  # noqa: S104
            for mapping in node.get("extraPortMappings") or []
            if mapping.get("protocol", "TCP") == "TCP"
        ]
    return [(str(address), int(port)) for address, port in found if port and int(port) > 0]


def _free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def worst(checks: Sequence[Check]) -> str:
    """The worst level among checks."""
    levels = {check.level for check in checks}
    return FAIL if FAIL in levels else WARN if WARN in levels else OK


def _field(info: str, names: str) -> str:
    match = re.search(rf"^\s*(?:{names}):\s*(\S.*?)\s*$", info, re.MULTILINE)
    return match[1] if match else ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
