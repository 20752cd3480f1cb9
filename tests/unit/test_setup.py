"""The set-up's decisions, from what a machine says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).resolve().parents[2] / "script"
sys.path.insert(0, str(SCRIPT))

from setuplib import dockerd, engines, firewall, machine, pythonenv, runc_filter, steps, tools  # noqa: E402

HYBRID = machine.Limits(nofile=20000, nproc=32768, raisable=False, cgroup_v2=False, systemd=False)
MODERN = machine.Limits(nofile=1048576, nproc=4096, raisable=True, cgroup_v2=True, systemd=True)


def test_config_of_a_machine_with_low_limits_and_cgroup_v1() -> None:
    import tomllib

    config = tomllib.loads(engines.render_config(HYBRID))
    assert config == {
        "containers": {
            "default_ulimits": ["nofile=20000:20000", "nproc=32768:32768"],
            "pids_limit": 0,
            "log_driver": "k8s-file",
        },
        "engine": {"events_logger": "file", "runtime": "runc", "cgroup_manager": "cgroupfs"},
    }


def test_config_of_a_modern_machine_leaves_runtime_and_cgroups_to_podman() -> None:
    text = engines.render_config(MODERN)
    assert text.startswith(engines.MARKER)
    assert 'default_ulimits = ["nofile=1048576:1048576", "nproc=4096:4096"]' in text
    assert "runtime" not in text
    assert "cgroup_manager" not in text


def test_config_on_cgroup_v2_without_systemd_uses_cgroupfs() -> None:
    limits = machine.Limits(nofile=1024, nproc=1024, raisable=True, cgroup_v2=True, systemd=False)
    assert 'cgroup_manager = "cgroupfs"' in engines.render_config(limits)


def test_limits_are_the_machines_own() -> None:
    import resource

    limits = machine.read_limits()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limits.nofile == (min(hard, machine.MOST_FILES) if hard >= 0 else machine.MOST_FILES)
    assert 0 < limits.nproc <= int(Path("/proc/sys/kernel/pid_max").read_text())


@pytest.mark.skipif(
    not machine.is_root() or machine.which("podman") is None, reason="needs podman, as root"
)
def test_podman_runs_a_container_with_the_config_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "containers.conf"
    config.write_text(engines.render_config(machine.read_limits()))
    monkeypatch.setenv("CONTAINERS_CONF", str(config))  # instead of the machine's own
    assert engines.podman_problem() is None


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        (None, True),
        ("# nothing\n\n[containers]\n# pids_limit = 0\n[engine]\n", True),
        (f"{engines.MARKER}\n[engine]\nruntime = 'runc'\n", True),
        ("[engine]\nruntime = 'runc'\n", False),
    ],
    ids=["no file", "comments only", "ours", "a user's"],
)
def test_only_settings_that_are_nobodys_are_written(
    tmp_path: Path, before: str | None, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = tmp_path / "etc" / "containers.conf"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    assert engines.may_configure(path) is allowed
    engines.configure_podman(path, tmp_path / "lib" / "modules")
    assert engines.config_is_ours(path) is allowed
    assert (tmp_path / "lib" / "modules").is_dir() is allowed
    if not allowed:
        assert path.read_text() == before


def test_a_users_own_containers_conf_forbids_ours(tmp_path: Path) -> None:
    own = tmp_path / ".config" / "containers" / "containers.conf"
    own.parent.mkdir(parents=True)
    own.write_text("[engine]\nruntime = 'crun'\n")
    assert not engines.may_configure(tmp_path / "none", tmp_path)


def test_podman_packages_follow_its_network_back_end() -> None:
    old = engines.podman_packages((4, 3, 1), HYBRID)
    assert "golang-github-containernetworking-plugin-dnsname" in old
    assert "runc" in old
    new = engines.podman_packages((5, 4, 2), MODERN)
    assert {"netavark", "aardvark-dns", "crun"} < set(new)
    assert "containernetworking-plugins" not in new


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(steps.SetupError, match="KINDCOV_ENGINE=rkt: must be one of docker, podman"):
        engines.choose({"KINDCOV_ENGINE": "rkt"})


@pytest.mark.parametrize(
    ("text", "debian"),
    [
        ("ID=debian\n", True),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=fedora\n", False),
        ("", False),
    ],
)
def test_debian_is_known_by_os_release(text: str, debian: bool) -> None:
    assert machine.is_debian(text) is debian


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(steps.SetupError, match="apt-get install --no-install-recommends hello"):
        machine.apt_install(["hello"], "hello is missing")


def test_package_lists_age(tmp_path: Path) -> None:
    assert machine.lists_are_old(tmp_path, time.time())
    (tmp_path / "mirror_dists_stable_main_binary-amd64_Packages.lz4").touch()
    assert not machine.lists_are_old(tmp_path, time.time())
    assert machine.lists_are_old(tmp_path, time.time() + 2 * 86400)


def test_capability_of_the_bounding_set() -> None:
    assert not machine.has_capability("CapEff:\t0\nCapBnd:\t000001fffeffffff\n", 24)
    assert machine.has_capability("CapBnd:\t000001ffffffffff\n", 24)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("kind version 0.33.0", (0, 33, 0)),
        ("kind version 0.33.0-alpha+fed26882", (0, 33, 0)),
        ("go version go1.26.6 linux/amd64", (1, 26, 6)),
        ("go version go1.27 linux/amd64", (1, 27)),
        ("  Candidate: 4.3.1+ds1-8+deb12u1", (4, 3, 1)),
        ("command not found", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert machine.version_of(text) == version


IMAGES = [
    "<none>:<none>",
    "docker.io/kindest/node:v1.34.0",
    "kindest/node:v1.9.11",
    "docker.io/kindest/node:v1.36.1",
    "docker.io/kindest/node:v1.33.4",
    "docker.io/kindest/node:<none>",
    "localhost/kindcov-node:v1.34.4-abc",
    "registry:5000/kindest/base:v1.35.0",
]


def test_the_newest_node_image_that_the_machine_can_run() -> None:
    best = tools.best_node_image
    assert best(IMAGES, cgroup_v2=True) == "docker.io/kindest/node:v1.36.1"
    assert best(IMAGES, cgroup_v2=False) == "docker.io/kindest/node:v1.34.0"
    assert best(["docker.io/kindest/node:v1.35.0"], cgroup_v2=False) is None
    assert best([], cgroup_v2=True) is None


def test_kinds_default_image_is_read_from_the_program(tmp_path: Path) -> None:
    program = tmp_path / "kind"
    image = f"kindest/node:v1.36.1@sha256:{'0a' * 32}"
    program.write_bytes(b"\x7fELF\0kindest/node:latest kindest/node" + image.encode() + b"docker")
    assert tools.default_node_image(program) == image
    program.write_bytes(b"nothing")
    assert tools.default_node_image(program) is None


class Registry(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(401 if self.path == "/v2/" else 403)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_registry_that_asks_who_we_are_answers(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert tools.registry_answers(f"{registry}/v2/")
    assert not tools.registry_answers(f"{registry}/blocked")
    assert not tools.registry_answers("http://127.0.0.1:1/v2/", timeout=1)


def test_the_environment_follows_requirements_and_place() -> None:
    assert pythonenv.fingerprint(b"a", Path("/x")) != pythonenv.fingerprint(b"b", Path("/x"))
    assert pythonenv.fingerprint(b"a", Path("/x")) != pythonenv.fingerprint(b"a", Path("/y"))


def test_runc_is_asked_for_nothing_that_needs_the_missing_capability() -> None:
    names = ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    process: dict[str, object] = {
        "args": ["/sbin/init"],
        "oomScoreAdj": -500,
        "capabilities": {"bounding": names, "effective": names},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": 5, "soft": 5},
        ],
    }
    assert runc_filter.humbled(process, {"RLIMIT_NOFILE": 20000}) == {
        "args": ["/sbin/init"],
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 20000, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": 5, "soft": 5},
        ],
    }


@pytest.mark.parametrize(
    ("call", "name", "spec", "expected"),
    [
        (
            ["--root", "r", "create", "--bundle", "{dir}", "id"],
            "config.json",
            '{"ociVersion": "1", "process": {"oomScoreAdj": 1, "args": ["a"]}}',
            '{"ociVersion": "1", "process": {"args": ["a"]}}',
        ),
        (["exec", "--process={dir}/p.json", "id"], "p.json", '{"oomScoreAdj": 1}', "{}"),
        (["state", "--bundle", "{dir}"], "config.json", '{"oomScoreAdj": 1}', '{"oomScoreAdj": 1}'),
    ],
    ids=["create", "exec", "other calls are left alone"],
)
def test_the_filter_edits_what_runc_reads(
    tmp_path: Path, call: list[str], name: str, spec: str, expected: str
) -> None:
    (tmp_path / name).write_text(spec)
    arguments = [part.replace("{dir}", str(tmp_path)) for part in call]
    program = [sys.executable, "-I", "-S", str(SCRIPT / "setuplib" / "runc_filter.py"), "/bin/echo"]
    done = subprocess.run(
        [*program, *arguments], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.stdout.split() == arguments, done.stderr
    assert (tmp_path / name).read_text() == expected


# As `iptables-save` printed it beside a running daemon.
BEFORE = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i cni-podman1 -j ACCEPT\nCOMMIT\n"
AFTER = """\
*filter
:FORWARD ACCEPT [7:300]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -i br-1a011a0e1139 ! -o br-1a011a0e1139 -j ACCEPT
-A FORWARD -i cni-podman1 -j ACCEPT
-A FORWARD -i cni-podman2 -m comment --comment "podman's DOCKERish" -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o br-1a011a0e1139 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A POSTROUTING -s 10.88.0.0/16 -j MASQUERADE
COMMIT
"""


def test_only_the_daemons_own_rules_are_removed() -> None:
    before, after = firewall.parse(BEFORE), firewall.parse(AFTER)
    found = [" ".join(each) for each in firewall.leftovers(before, after, ["br-1a011a0e1139"])]
    assert found == [
        "-t filter -D FORWARD -j DOCKER-USER",
        "-t filter -D FORWARD -i br-1a011a0e1139 ! -o br-1a011a0e1139 -j ACCEPT",
        "-t filter -D DOCKER-USER -j RETURN",
        "-t nat -D POSTROUTING -s 172.17.0.0/16 ! -o br-1a011a0e1139 -j MASQUERADE",
        "-t nat -D POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 "
        "-j MASQUERADE",
        "-t filter -X DOCKER",
        "-t filter -X DOCKER-USER",
        "-t nat -X DOCKER",
    ]
    # A daemon that was there before, though stopped, keeps its rules.
    assert firewall.leftovers(after, after, []) == []


def test_the_daemon_is_kept_apart(tmp_path: Path) -> None:
    deep = tmp_path / ("deep/" * 40)
    socket = dockerd.environment(deep)["DOCKER_HOST"].removeprefix("unix://")
    assert len(socket) < 100
    assert dockerd.environment(tmp_path) != dockerd.environment(deep)
    given = dockerd.arguments(deep, HYBRID, Path("/run/x/runc"))
    assert "--default-ulimit=nofile=20000:20000" in given
    assert "--default-runtime=humble" in given
    given = dockerd.arguments(deep, MODERN, None)
    assert not [each for each in given if "ulimit" in each or "runtime" in each]
    assert dockerd.daemon_pid(tmp_path) is None


def test_a_command_out_of_time_is_ended_with_its_children() -> None:
    start = time.monotonic()
    result = steps.ask(["sh", "-c", "sleep 30 & echo $!; wait"], 0.3)
    assert time.monotonic() - start < 5
    assert result.code == 124
    assert "out of time after 0.3 s: sh -c" in result.tail
    deadline = time.monotonic() + 5  # to die takes a killed process a moment
    while dockerd.alive(int(result.out)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not dockerd.alive(int(result.out))


def test_a_command_that_fails_is_shown_with_the_remedy() -> None:
    with pytest.raises(steps.SetupError, match=r"(?s)ended with 3:\nbroken\nRemedy: mend it"):
        steps.must(["sh", "-c", "echo broken >&2; exit 3"], 10, "Remedy: mend it")
    assert steps.ask(["/no/such/program"], 1).code == 127


def test_what_cannot_be_done_ends_in_one_message() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT / "setup.py", "docker", "load", "--state=x", "--image=y"],
        env={"PATH": "/nowhere"},
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "podman" in done.stderr
    assert "Remedy:" in done.stderr


def test_helm_is_found_or_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `go install` makes tells less of its version than what Helm's makers build."""
    text = "#!/bin/sh\nprintf v3.19\n"
    go = tmp_path / "go"
    go.write_text(f'#!/bin/sh\necho "$2" >> {tmp_path}/asked\n'
                  f'printf \'{text}\' > "$GOBIN/helm"; chmod 755 "$GOBIN/helm"\n')  # fmt: skip
    go.chmod(0o755)
    monkeypatch.setattr(machine, "which", lambda _: None)
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(2):
        found = tools.ensure_helm(env, tools.Go(go))
        assert found == tmp_path / "cache/kindcov/bin/helm"
    assert (tmp_path / "asked").read_text() == f"helm.sh/helm/v3/cmd/helm@v{tools.HELM}\n"
    monkeypatch.setattr(machine, "which", lambda _: str(found))
    assert tools.ensure_helm({}, tools.Go(go)) == found
