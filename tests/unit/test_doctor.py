"""`kindcov doctor` and `kindcov harvest` on engines that say what they are told to say."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindcov import cli, doctor
from pytest_kindcov._run import head
from pytest_kindcov.cluster import owners
from pytest_kindcov.cluster.engine import Engine
from pytest_kindcov.cluster.node import Node
from pytest_kindcov.cluster.preflight import WARN, Check
from pytest_kindcov.errors import CommandError
from pytest_kindcov.harvest import files

if TYPE_CHECKING:
    from collections.abc import Callable

# An engine by files in its directory: `ps` what it lists, `image` what the node image prints.
ENGINE = """#!/bin/bash
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
  info) cat "$here/info" ;;
  --version) echo "podman version 4.3.1" ;;
  ps) cat "$here/ps" 2> /dev/null || true ;;
  run) cat "$here/image" 2> /dev/null || { echo "exec format error" >&2; exit 1; } ;;
  rm) [ ! -e "$here/busy" ] || { echo "device is busy" >&2; exit 1; } ;;
  exec) echo "container is not running" >&2; exit 125 ;;
  inspect) cat "$here/running" ;;
  cp) cat "$here/archive" ;;
esac
"""
INFO = """host:
  arch: amd64
  cgroupVersion: v2
store:
  graphRoot: /nowhere
"""
IMAGE = "v1.34.4\nx86_64\nsystemd 252 (252.39)\n+PAM"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs: all that is on PATH besides the system's."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in (
        ("podman", ENGINE),
        ("docker", "#!/bin/sh\nexit 1\n"),
        ("kind", "#!/bin/sh\necho kind v0.33.0 go1.26 linux/amd64\n"),
        ("go", "#!/bin/sh\necho go version go1.26 linux/amd64\n"),
    ):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "info").write_text(INFO)
    (directory / "image").write_text(IMAGE)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Engine, "image_names", lambda self, reference: [f"{reference}:v1.34.4-x"])
    monkeypatch.setattr(Engine, "has_image", lambda self, reference: True)
    monkeypatch.setattr(Engine, "remove_volumes", lambda self, cluster: None)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KINDCOV_")]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "KIND_EXPERIMENTAL_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return directory


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`kindcov` with these words: its exit code, and all that it printed."""

    def call(*words: str) -> tuple[int, str]:
        code = cli.main(words)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def test_all_is_well(programs: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, output = run("doctor")
    assert code == 0
    assert {line.split()[0] for line in output.splitlines()} == {"ok"}
    assert "node image: localhost/kindcov-node:v1.34.4-x, Kubernetes v1.34.4, amd64" in output
    assert "remedy" not in output
    assert "cgroup: v2" in output


@pytest.mark.parametrize(
    ("file", "text", "level", "slug"),
    [
        ("info", None, "fail", "no-engine"),
        ("kind", "#!/bin/sh\necho kind v0.20.0 go\n", "warn", "kind-old"),
        ("kind", "#!/bin/sh\nexit 1\n", "fail", "kind-missing"),
        ("go", "#!/bin/sh\nexit 1\n", "warn", "go-missing"),
        ("image", None, "fail", "wrong-architecture"),
        ("image", "no version\n", "fail", "node-image-unusable"),
        ("info", INFO.replace("v2", "v1"), "ok", ""),
    ],
)
def test_something_is_wrong(
    programs: Path,
    run: Callable[..., tuple[int, str]],
    file: str,
    text: str | None,
    level: str,
    slug: str,
) -> None:
    if text is None:
        (programs / file).unlink()
    else:
        (programs / file).write_text(text)
    code, output = run("doctor")
    assert code == (1 if level == "fail" else 0), output
    wrong = [line for line in output.splitlines() if line.startswith(("warn", "fail"))]
    if slug:
        (line,) = wrong
        assert line.startswith(level)
        assert line.endswith(f"[{slug}]")
        assert "      remedy: " in output
    else:
        assert wrong == []


def test_systemd_against_the_host(programs: Path, run: Callable[..., tuple[int, str]]) -> None:
    (programs / "info").write_text(INFO.replace("v2", "v1"))
    (programs / "image").write_text("v1.36.1\nx86_64\nsystemd 257 (257.1)\n")
    code, output = run("doctor")
    assert code == 1
    assert "[systemd-refuses-cgroup-v1]" in output
    assert "[kubelet-refuses-cgroup-v1]" in output


def test_settings_come_from_flags_and_environment(
    programs: Path, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINDCOV_NODE_IMAGE", "kindest/node:v1.33.0")
    monkeypatch.setenv("KINDCOV_KIND_BIN", "/nowhere/kind")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter22@proxy:1")
    monkeypatch.setattr(Engine, "has_image", lambda self, reference: False)
    (programs.parent / "kind.yaml").write_text("nodes: 7")
    code, output = run("doctor", "--kind-config", "kind.yaml", "--dir", "/proc/x")
    assert code == 1
    assert "/nowhere/kind was not found" in output
    assert "kindest/node:v1.33.0 is not in podman's store" in output
    assert "[kind-config-invalid]" in output
    assert "[directory-not-writable]" in output or os.geteuid() == 0
    assert "[proxy-in-the-way]" in output
    assert "hunter22" not in output


def orphaned(name: str) -> None:
    """A cluster whose run is dead."""
    code = (
        "import sys; from pytest_kindcov.cluster import owners, engine;"
        " assert owners.claim(sys.argv[1], engine.Engine('podman'))"
    )
    subprocess.run(["python3", "-c", code, name], check=True, timeout=60, env=_with_python())


def _with_python() -> dict[str, str]:
    import sys

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(Path(cli.__file__).parents[1])}


def test_orphans_are_named_and_removed(programs: Path, run: Callable[..., tuple[int, str]]) -> None:
    orphaned("kindcov-7-dead")
    assert owners.claim("kindcov-8-live", Engine("podman"))
    names = ("kindcov-7-dead", "kindcov-8-live", "kindcov-9-who", "kind")
    (programs / "ps").write_text(
        "".join(f"{name}\t{name}-control-plane\trunning\n" for name in names)
    )
    code, output = run("doctor")
    assert code == 0
    assert "warn  orphans: cluster kindcov-7-dead (podman) of a run that is dead" in output
    assert "`kindcov harvest --cluster kindcov-7-dead` saves its coverage" in output
    assert "cluster kindcov-9-who (podman): its run is not known" in output
    assert "kindcov-8-live" not in output
    assert " rm " not in f" {(programs / 'calls').read_text()} "

    (programs / "busy").touch()
    code, output = run("doctor", "--remove")
    assert code == 1
    assert "could not remove cluster kindcov-7-dead" in output
    assert "device is busy" in output
    (programs / "busy").unlink()
    code, output = run("doctor", "--remove")
    assert code == 0
    assert "removed cluster kindcov-7-dead" in output
    removed = [
        line for line in (programs / "calls").read_text().splitlines() if line.startswith("rm")
    ]
    assert set(removed) == {"rm -f -v kindcov-7-dead-control-plane"}
    assert set(owners.owners()) == {"kindcov-8-live"}


def test_lines_are_fit_for_a_terminal() -> None:
    shown = doctor.lines(Check("x", WARN, "a\x1b[31mb", "c\x07", "slug"))
    assert shown == ["warn  x: ab [slug]", "      remedy: c"]


def test_harvest_of_no_cluster(programs: Path, run: Callable[..., tuple[int, str]]) -> None:
    (programs / "ps").write_text("other\tother-control-plane\trunning\n")
    code, output = run("harvest", "--cluster", "mine")
    assert code == 1
    assert "there is no cluster mine [cluster-missing]" in output
    assert "podman has other" in output


def test_harvest_of_a_running_run_is_refused(
    programs: Path, run: Callable[..., tuple[int, str]]
) -> None:
    assert owners.claim("mine", Engine("podman"))
    (programs / "ps").write_text("mine\tmine-control-plane\tUp 3 minutes\n")
    code, output = run("harvest", "--cluster", "mine")
    assert code == 1
    assert "[cluster-in-use]" in output
    assert f"process {os.getpid()}" in output


META = f"covmeta.{'0' * 32}"


def _archive() -> bytes:
    """What `podman cp NODE:/var/lib/kindcov/containers -` gives."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in (
            (f"containers/{'a' * 64}/data/{META}", b"meta"),
            (f"containers/{'a' * 64}/data/../../../etc/passwd", b"x"),
            (f"containers/{'a' * 64}/state.json", b"{}"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def test_files_of_a_stopped_node_are_copied(programs: Path) -> None:
    (programs / "running").write_text("false\n")
    (programs / "archive").write_bytes(_archive())
    engine = Engine("podman")
    (container,) = files.collect([Node("x", engine)]).containers
    assert container.files == {META: b"meta"}
    (programs / "running").write_text("true\n")
    found = files.collect([Node("x", engine)])
    assert found.containers == []
    assert found.errors["x"].slug == "node-not-readable"


def test_head_is_bounded_in_size_and_time() -> None:
    assert head(["cat", "/dev/zero"], 1000, timeout=10) == bytes(1000)
    assert head(["echo", "x"], 1000, timeout=10) == b"x\n"
    begin = time.monotonic()
    with pytest.raises(CommandError, match="did not end"):
        head(["sleep", "60"], 10, timeout=0.3)
    assert time.monotonic() - begin < 5
    with pytest.raises(CommandError, match="exit code 1"):
        head(["cat", "/nowhere"], 10, timeout=10)
