"""The container engine: the user's own as it is, or a podman installed where there is none."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from setuplib import machine
from setuplib.steps import SetupError, ask, say

if TYPE_CHECKING:
    from setuplib.machine import Limits

NAMES = ("docker", "podman")  # docker first: where both work, most people mean docker
INFO_TIMEOUT = 10.0  # seconds: an answer takes 0.1 s, a hung daemon never comes
PROBE_TIMEOUT = 60.0  # seconds: a container without an image takes 0.3 s

CONFIG = Path("/etc/containers/containers.conf")
MARKER = "# Written by pytest-kindcov's script/setup.py for this machine's limits."

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
# Each node's systemd, containerd and kubelet take dozens; the kernel's 128 end at two nodes.
ENOUGH_INSTANCES = 1024


@dataclass(frozen=True)
class Engine:
    """A container engine that runs containers here."""

    name: str  # docker or podman, which is also its command
    ours: bool  # installed and configured by this set-up, on a machine that had none


def choose(env: dict[str, str]) -> Engine:
    """Find the engine to use; install podman where there is none.

    The one that KINDCOV_ENGINE names must work. Else docker, if its daemon answers, else podman,
    if it runs a container. Nothing of the user's is ever reconfigured.
    Raises SetupError with what was tried and the remedy.
    """
    named = env.get("KINDCOV_ENGINE", "")
    if named:
        if named not in NAMES:
            raise SetupError(f"KINDCOV_ENGINE={named}: must be one of {', '.join(NAMES)}")
        problem = docker_problem() if named == "docker" else podman_problem()
        if problem is not None:
            raise SetupError(
                f"KINDCOV_ENGINE={named}, but it does not work:\n{problem}\n"
                "Remedy: mend it, or unset KINDCOV_ENGINE to let the set-up choose."
            )
        return Engine(named, ours=named == "podman" and config_is_ours())
    no_docker = docker_problem()
    if no_docker is None:
        return Engine("docker", ours=False)
    had_podman = machine.which("podman") is not None
    if had_podman and config_is_ours():
        configure_podman()  # the machine's limits may have changed since
    no_podman = podman_problem()
    if no_podman is None:
        return Engine("podman", ours=config_is_ours())
    found = f"docker: {no_docker}\npodman: {no_podman}"
    if had_podman and not may_configure():
        raise SetupError(
            f"no container engine works here:\n{found}\n"
            f"Remedy: start Docker, or mend podman; it has settings of its own "
            f"({CONFIG}, ~/.config/containers or CONTAINERS_CONF), which this set-up leaves alone."
        )
    refusal = machine.apt_refusal()
    if refusal is not None:
        raise SetupError(
            f"no container engine works here:\n{found}\n"
            f"Remedy: start Docker, or install it or podman; it cannot be done for you: {refusal}."
        )
    install_podman()
    problem = podman_problem()
    if problem is not None:
        raise SetupError(
            f"podman was installed and configured ({CONFIG}), but does not run a container:\n"
            f"{problem}\nRemedy: use a machine whose kernel allows containers, or Docker."
        )
    return Engine("podman", ours=True)


def docker_problem() -> str | None:
    """Say why docker cannot be used; None where its daemon answers."""
    version = ask(["docker", "--version"], INFO_TIMEOUT)
    if version.code != 0:
        return "not installed"
    if not version.out.startswith("Docker version"):
        return "the docker command is another program's (podman-docker)"
    # {{json .ServerVersion}}: newer clients print "" and exit 0 where no daemon answers.
    info = ask(["docker", "info", "--format", "{{json .ServerVersion}}"], INFO_TIMEOUT)
    if info.code != 0 or info.out.strip() in {"", '""', "null"}:
        return f"its daemon does not answer ({info.tail or 'docker info says nothing'})"
    return None


def podman_problem() -> str | None:
    """Say why podman cannot be used; None where it runs a container."""
    if machine.which("podman") is None:
        return "not installed"
    info = ask(["podman", "info", "--format", "json"], INFO_TIMEOUT)
    if info.code != 0:
        return f"podman info fails: {info.tail}"
    try:
        remote = bool(json.loads(info.out)["host"]["serviceIsRemote"])
    except (ValueError, KeyError, TypeError):
        remote = False
    if remote:
        return None  # a virtual machine: the probe's files are not there
    # `podman info` says nothing of the runtime: crun refuses a hybrid cgroup host, and limits
    # above the machine's own are refused only when a container starts. So start one, privileged
    # as Kind's are: no image is needed with the machine's own /usr.
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("bin", "lib", "lib64"):
            target = Path("/", name)
            if target.is_symlink():
                (root / name).symlink_to(f"usr/{name}")
        (root / "usr").mkdir()
        command = ["podman", "run", "--rm", "--privileged", "--network", "none"]
        command += ["--volume", "/usr:/usr:ro", "--rootfs", scratch, "/usr/bin/true"]
        probe = ask(command, PROBE_TIMEOUT)
    return None if probe.code == 0 else f"it cannot run a container: {probe.tail}"


def has_settings(text: str) -> bool:
    """Tell whether a containers.conf says anything but comments and section names."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith(("#", "[")) for line in lines)


def config_is_ours(path: Path = CONFIG) -> bool:
    """Tell whether containers.conf was written by this set-up."""
    try:
        return path.read_text().startswith(MARKER)
    except OSError:
        return False


def may_configure(path: Path = CONFIG, home: Path | None = None) -> bool:
    """Tell whether podman has no settings but ours, so that nobody's are lost by writing them."""
    if "CONTAINERS_CONF" in os.environ:
        return False
    own = (home or Path.home()) / ".config" / "containers" / "containers.conf"
    for each in (path, own):
        if each.is_file() and has_settings(each.read_text()) and not config_is_ours(each):
            return False
    return True


def render_config(limits: Limits) -> str:
    """Give the containers.conf with which Kind's nodes start within a machine's limits."""
    ulimits = [
        f"nofile={limits.nofile}:{limits.nofile}",
        f"nproc={limits.nproc}:{limits.nproc}",
    ]
    lines = [
        MARKER,
        "# Delete the line above, and it is left alone from then on.",
        "[containers]",
        # Podman's own defaults are far higher, and refused where limits cannot be raised.
        f"default_ulimits = {json.dumps(ulimits)}",
        "pids_limit = 0",  # 2048 would be shared by all pods of a node
        'log_driver = "k8s-file"',  # Kind reads the boot messages; journald may not run
        "",
        "[engine]",
        'events_logger = "file"',
    ]
    if not limits.cgroup_v2:
        lines.append('runtime = "runc"')  # crun refuses a hybrid hierarchy
    if not (limits.cgroup_v2 and limits.systemd):
        lines.append('cgroup_manager = "cgroupfs"')
    return "\n".join(lines) + "\n"


def podman_packages(version: tuple[int, ...], limits: Limits) -> list[str]:
    """Give the packages for a podman of that version: its network back end changed in 4.4."""
    network = (
        ["netavark", "aardvark-dns", "nftables"]
        if version >= (4, 4)
        else [
            "containernetworking-plugins",
            # Nodes find each other by name.
            "golang-github-containernetworking-plugin-dnsname",
            "dnsmasq-base",
        ]
    )
    return ["podman", "crun" if limits.cgroup_v2 else "runc", *network, "iptables"]


def install_podman() -> None:
    """Install podman by apt and configure it. Raises SetupError."""
    machine.apt_refresh()
    policy = ask(["apt-cache", "policy", "podman"], 30).out
    candidate = next((line for line in policy.splitlines() if "Candidate:" in line), "")
    packages = podman_packages(machine.version_of(candidate), machine.read_limits())
    machine.apt_install(packages, "no container engine works here")
    configure_podman()


def configure_podman(path: Path = CONFIG, modules: Path = Path("/lib/modules")) -> None:
    """Write containers.conf, unless it holds anybody's settings. Needs root."""
    if not machine.is_root() or not may_configure(path):
        return
    text = render_config(machine.read_limits())
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        say(f"set-up: wrote {path} from this machine's limits")
    modules.mkdir(parents=True, exist_ok=True)  # Kind mounts it; podman refuses a missing source


def check_inotify(engine: Engine) -> None:
    """Raise a limit too low for several nodes, on a machine set up by us; else warn."""
    try:
        now = int(INSTANCES.read_text())
    except (OSError, ValueError):
        return  # not Linux: the engine's machine is another
    if now >= ENOUGH_INSTANCES:
        return
    setting = f"fs.inotify.max_user_instances={ENOUGH_INSTANCES}"
    if engine.ours and machine.is_root():
        try:
            INSTANCES.write_text(f"{ENOUGH_INSTANCES}\n")
        except OSError as error:
            say(f"set-up: {setting} could not be set ({error.strerror}); one node will do")
        else:
            say(f"set-up: {setting} (was {now}) until the next boot: several nodes need it")
    else:
        say(f"set-up: fs.inotify.max_user_instances is {now}, too low for several nodes; one is")
        say(f"        fine. Remedy: sudo sysctl -w {setting}")
