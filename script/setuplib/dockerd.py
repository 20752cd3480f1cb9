"""A docker daemon of our own, for tests of the docker side where no daemon runs.

Everything of it is below one directory and one in /run; it has no bridge of its own (Kind makes
its network itself), and what it does to the packet filter is undone when it stops. Forwarding
stays on afterwards (net.ipv4.ip_forward): another engine's containers may rely on it by then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from setuplib import engines, firewall, machine
from setuplib.steps import ROOT, SBIN, SetupError, ask, say, step

START_TIMEOUT = 60.0  # seconds: 2 s is usual
STOP_TIMEOUT = 30.0  # seconds: its containers are gone by then
COPY_TIMEOUT = 300.0  # seconds: 20 s for 1.1 GB
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def run_dir(state: Path) -> Path:
    """Give the daemon's directory for sockets, whose paths may have only 107 characters."""
    return Path("/run") / f"kindcov-{hashlib.sha256(str(state).encode()).hexdigest()[:8]}"


def environment(state: Path) -> dict[str, str]:
    """Give the variables by which a docker client finds our daemon."""
    return {"DOCKER_HOST": f"unix://{run_dir(state)}/docker.sock"}


def daemon_pid(state: Path) -> int | None:
    """Give our daemon's process id; None where it does not run (its number may be another's)."""
    try:
        pid = int((run_dir(state) / "docker.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(run_dir(state)).encode() in command else None


def arguments(state: Path, limits: machine.Limits, runtime: Path | None) -> list[str]:
    """Give dockerd's arguments; `runtime`: what replaces runc where limits cannot be raised."""
    run = run_dir(state)
    result = [
        f"--host={environment(state)['DOCKER_HOST']}",
        f"--data-root={state / 'data'}",
        f"--exec-root={run / 'exec'}",
        f"--pidfile={run / 'docker.pid'}",
        f"--config-file={run / 'daemon.json'}",  # not the machine's, which is for another daemon
        # Where containerd runs already it is shared, but not its names.
        f"--containerd-namespace={run.name}",
        f"--containerd-plugins-namespace={run.name}-plugins",
        f"--cgroup-parent={run.name}.slice",  # by which its containers' processes are known
        "--bridge=none",
    ]
    if not limits.raisable:
        result.append(f"--default-ulimit=nofile={limits.nofile}:{limits.nofile}")
    if runtime is not None:
        result += [f"--add-runtime=humble={runtime}", "--default-runtime=humble"]
    return result


def install() -> None:
    """Install docker's daemon where it is missing. Raises SetupError."""
    needed = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables"}
    packages = {package for program, package in needed.items() if machine.which(program) is None}
    if not packages:
        return
    if machine.which("docker") is None:
        machine.apt_refresh()
        if machine.apt_knows("docker-cli"):  # newer Debian ships the client separately
            packages.add("docker-cli")
    machine.apt_install(sorted(packages), "docker's daemon is missing")


def write_runtime(directory: Path) -> Path:
    """Write the program that the daemon runs instead of runc. Raises SetupError without runc."""
    runc = machine.which("runc")
    if runc is None:
        raise SetupError("docker's daemon needs runc.\nRemedy: apt-get install runc")
    # A copy: the checkout may go while the daemon runs. -I -S: a quick start.
    script = directory / "runc_filter.py"
    shutil.copyfile(ROOT / "script" / "setuplib" / "runc_filter.py", script)
    words = [sys.executable, "-I", "-S", str(script), runc]
    runtime = directory / "runc"
    runtime.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    runtime.chmod(0o755)
    return runtime


def start(state: Path) -> tuple[bool, dict[str, str]]:
    """Start our daemon and wait for it; give whether one is ours, and the variables for clients.

    A daemon that answers already is just reported, ours or the user's. Raises SetupError.
    """
    if daemon_pid(state) is None:
        if engines.docker_problem() is None:
            return False, {key: os.environ[key] for key in ("DOCKER_HOST",) if key in os.environ}
        if not machine.is_root():
            raise SetupError("no docker daemon answers.\nRemedy: start it, or run this as root.")
        install()
        if engines.docker_problem() is None:  # the package's installation may have started one
            return False, {}
        clean(state)  # what a killed one left
        with step(f"starting a docker daemon ({state})"):
            launch(state)
    return True, environment(state)


def launch(state: Path) -> None:
    """Start dockerd and wait until it answers. Raises SetupError with its last lines."""
    run = run_dir(state)
    state.mkdir(parents=True, exist_ok=True)
    run.mkdir(mode=0o700)
    (run / "daemon.json").write_text("{}")
    # Where dockerd turns forwarding on, it also sets the policy of FORWARD to DROP, which would
    # cut off the containers of every other engine. So it finds it on.
    FORWARD.write_text("1\n")
    rules = {command: firewall.current(command) for command in firewall.COMMANDS}
    (state / "firewall.json").write_text(json.dumps(rules))
    limits = machine.read_limits()
    runtime = None if limits.raisable else write_runtime(run)
    command = [machine.which("dockerd") or "dockerd", *arguments(state, limits, runtime)]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    log = state / "dockerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": path},
            start_new_session=True,  # Ctrl-C is not for it
        )
    deadline = time.monotonic() + START_TIMEOUT
    while ask(["docker", "info"], 10, {**os.environ, **environment(state)}).code != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            stop(state)
            raise SetupError(f"dockerd did not come up:\n{last}\nRemedy: see the lines above.")
        time.sleep(0.2)


def stop(state: Path) -> None:
    """End our daemon with all its containers, networks and images, and remove its traces."""
    env = {**os.environ, **environment(state)}
    pid = daemon_pid(state)
    if pid is not None:
        containers = ask(["docker", "ps", "--all", "--quiet"], 10, env).out.split()
        if containers:
            ask(["docker", "rm", "--force", "--volumes", *containers], 60, env)
        ask(["docker", "network", "prune", "--force"], 30, env)
        end(pid, STOP_TIMEOUT)
    end_leftovers(state)
    bridges = own_bridges(state)
    for bridge in bridges:
        if Path("/sys/class/net", bridge).exists():
            ask([machine.which("ip") or "ip", "link", "delete", bridge], 20)
    try:
        saved = json.loads((state / "firewall.json").read_text())
    except (OSError, ValueError):
        saved = None  # never started, or cleaned up before
    for command, rules in (saved or {}).items():
        firewall.restore(command, [(table, rule) for table, rule in rules], bridges)
    clean(state)


def own_bridges(state: Path) -> list[str]:
    """Give the bridges that the daemon ever made: a killed one cannot be asked for them."""
    try:
        store = (state / "data" / "network" / "files" / "local-kv.db").read_bytes()
    except OSError:
        return []
    # A database, but the names stand in it as text.
    return sorted({name.decode() for name in re.findall(rb"\bbr-[0-9a-f]{12}\b", store)})


def end(pid: int, patience: float) -> None:
    """End a process: by SIGTERM, and after `patience` seconds by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and alive(pid):
            time.sleep(0.05)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end_leftovers(state: Path) -> None:
    """End what outlives a daemon that was killed: its containerd, their shims, the containers."""
    run = run_dir(state)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_text(errors="replace").split("\0")
            cgroups = (directory / "cgroup").read_text()
        except OSError:
            continue
        # By name as well: an editor or a shell that mentions the directory is not ours to end.
        helper = Path(words[0]).name.startswith("containerd") and any(
            str(run) in word or word == run.name for word in words
        )
        if helper or f"/{run.name}.slice" in cgroups:
            end(int(directory.name), 2.0)
    for cgroup in sorted(Path("/sys/fs/cgroup").glob(f"**/{run.name}.slice"), reverse=True):
        for each in sorted(cgroup.glob("**/"), reverse=True):  # the innermost first
            with contextlib.suppress(OSError):
                each.rmdir()


def clean(state: Path) -> None:
    """Unmount and remove what is below the daemon's directories."""
    places = (state / "data", run_dir(state))
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if any(Path(mount).is_relative_to(place) for place in places):
            ask(["umount", "--lazy", mount], 20)
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            say(f"set-up: {place} could not be removed whole")
    (state / "firewall.json").unlink(missing_ok=True)


def copy_image(image: str, env: dict[str, str]) -> None:
    """Copy an image from podman to docker, as a pipe. Raises SetupError."""
    with step(f"copying {image} from podman to docker"):
        # docker-archive: the format that docker reads with the image's name.
        save = subprocess.Popen(
            ["podman", "save", "--format", "docker-archive", image], stdout=subprocess.PIPE
        )
        load = subprocess.Popen(
            ["docker", "load", "--quiet"],
            stdin=save.stdout,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **env},
        )
        assert save.stdout is not None
        save.stdout.close()  # so that `save` ends when `load` does
        try:
            codes = (load.wait(COPY_TIMEOUT), save.wait(10))
        except subprocess.TimeoutExpired:
            codes = (124, 124)
        finally:
            for process in (save, load):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    if any(codes):
        raise SetupError(
            f"podman save {image} | docker load ended with {codes[1]} | {codes[0]}.\n"
            "Remedy: see what they said above."
        )
