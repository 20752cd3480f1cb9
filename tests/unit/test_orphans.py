"""Whose a cluster is, and which ones belong to dead runs: on real processes."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindcov.cluster import orphans, owners
from pytest_kindcov.cluster.engine import Container, Engine
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

PODMAN = Engine("podman")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in owners._ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state/kindcov/clusters"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another run: a process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def claimed(cluster: str, pid: int, engine: Engine = PODMAN, **values: object) -> owners.Owner:
    """A cluster that another process made."""
    assert owners.claim(cluster, engine)
    owner = replace(owners.owners(engine)[cluster], pid=pid, started=owners.started(pid))
    owner = replace(owner, **values)  # type: ignore[arg-type]
    assert owners._write(owner)
    return owner


def present(*names: str) -> dict[str, list[Container]]:
    return {name: [Container(f"{name}-control-plane", running=True)] for name in names}


def test_claim_is_private_and_goes(state: Path) -> None:
    assert owners.claim("kindcov-1-ab", PODMAN, state)
    assert [path.name for path in sorted(state.iterdir())] == [
        "kindcov-1-ab.podman.json",
        "kindcov-1-ab.podman.lock",
    ]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in state.iterdir())
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    owner = owners.owners()["kindcov-1-ab"]
    assert owner.pid == os.getpid()
    assert owner.alive() is True
    owners.release("kindcov-1-ab", PODMAN)
    owners.release("kindcov-1-ab", PODMAN)
    assert list(state.iterdir()) == []


def test_run_lives_and_dies(process: subprocess.Popen[bytes]) -> None:
    owner = claimed("kindcov-1-ab", process.pid)
    assert owner.alive() is True
    assert orphans.find(PODMAN, present("kindcov-1-ab")).orphans == ()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.alive() is False  # a zombie: nobody has waited for it yet
    process.wait()
    assert owner.alive() is False
    (orphan,) = orphans.find(PODMAN, present("kindcov-1-ab", "kind")).orphans
    assert orphan.nodes == ("kindcov-1-ab-control-plane",)
    assert f"process {process.pid}" in str(orphan)


def test_process_of_that_number_may_be_another() -> None:
    assert claimed("kindcov-1-ab", os.getpid(), started="1").alive() is False


def test_what_cannot_be_known_is_not_dead() -> None:
    owner = claimed("kindcov-1-ab", 999_999)
    host, boot, namespace = owner.machine
    assert owner.alive() is False
    assert replace(owner, machine=("other", boot, namespace)).alive() is None
    assert replace(owner, machine=(host, boot, "pid:[1]")).alive() is None
    assert replace(owner, machine=(host, "before", "pid:[1]")).alive() is False  # it was restarted
    owners._write(replace(owner, machine=("other", boot, namespace)))
    assert orphans.find(PODMAN, present("kindcov-1-ab")) == orphans.Found((), (), ())


def test_others_are_never_ours(process: subprocess.Popen[bytes]) -> None:
    claimed("kindcov-1-kept", 999_999, kept=True)
    claimed("kindcov-1-docker", 999_999, Engine("docker"))
    claimed("kindcov-1-far", 999_999, endpoint="CONTAINER_HOST=ssh://far")
    names = ("kindcov-1-kept", "kindcov-1-docker", "kindcov-1-far", "kindcov-7-xx", "kind", "mine")
    found = orphans.find(PODMAN, present(*names))
    assert found.orphans == ()
    assert found.unknown == ("kindcov-1-docker", "kindcov-1-far", "kindcov-7-xx")
    assert [owner.cluster for owner in found.kept] == ["kindcov-1-kept"]
    assert set(owners.owners()) == {"kindcov-1-kept", "kindcov-1-docker", "kindcov-1-far"}


def test_keeping_is_noted() -> None:
    owners.claim("kindcov-1-ab", PODMAN)
    owners.keep("kindcov-1-ab", PODMAN)
    owners.keep("kindcov-none", PODMAN)
    assert owners.owners()["kindcov-1-ab"].kept
    assert set(owners.owners()) == {"kindcov-1-ab"}


def test_note_of_a_cluster_that_was_deleted_by_hand_goes() -> None:
    claimed("kindcov-1-ab", 999_999)
    assert orphans.find(PODMAN, {}).orphans == ()
    assert owners.owners() == {}


class Removing(Engine):
    """Notes what is removed."""

    def remove_containers(self, names: object) -> None:
        self.__dict__.setdefault("removed", []).append(names)

    def remove_volumes(self, cluster: str) -> None:
        self.__dict__.setdefault("removed", []).append(cluster)


def test_removal(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    engine = Removing("podman")
    scratch = tmp_path / "kindcov-999999-abcd"
    scratch.mkdir()
    (scratch / "kubeconfig").touch()
    claimed("kindcov-1-ab", 999_999, scratch=str(scratch))
    (orphan,) = orphans.find(engine, present("kindcov-1-ab")).orphans
    orphans.remove(orphan, engine)
    assert engine.__dict__["removed"] == [("kindcov-1-ab-control-plane",), "kindcov-1-ab"]
    assert not scratch.exists()
    assert owners.owners() == {}
    living = claimed("kindcov-2-ab", process.pid)
    orphans.remove(orphans.Orphan(living, ("kindcov-2-ab-control-plane",)), engine)
    assert len(engine.__dict__["removed"]) == 2
    assert "kindcov-2-ab" in owners.owners()


def test_files_alone_are_found_too(tmp_path: Path) -> None:
    (tmp_path / "kindcov-999999-abcd").mkdir()
    claimed("kindcov-1-ab", 999_999, scratch=str(tmp_path / "kindcov-999999-abcd"))
    (orphan,) = orphans.find(PODMAN, {}).orphans
    assert orphan.nodes == ()
    assert str(orphan).startswith("files of a run")


@pytest.mark.parametrize("scratch", ["/", "", "kindcov-999999-link", "precious"])
def test_only_the_runs_own_directory_is_removed(tmp_path: Path, scratch: str) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "kindcov-999999-link").symlink_to(tmp_path / "precious")
    claimed("kindcov-1-ab", 999_999, scratch=str(tmp_path / scratch) if scratch else "")
    (orphan,) = orphans.find(PODMAN, present("kindcov-1-ab")).orphans
    orphans.remove(orphan, Removing("podman"))
    assert (tmp_path / "precious").is_dir()
    assert (tmp_path / "kindcov-999999-link").is_symlink()


def test_strange_notes_are_left_out(state: Path) -> None:
    owners.claim("kindcov-1-ab", PODMAN)
    good = (state / "kindcov-1-ab.podman.json").read_text()
    for number, text in enumerate(
        ["", "[]", "{}", "\xff", good, json.dumps({**json.loads(good), "machine": ["x"]})]
    ):
        (state / f"odd{number}.json").write_text(text, encoding="latin-1")
    assert set(owners.owners()) == {"kindcov-1-ab"}


def test_names_that_are_no_names_are_refused(state: Path) -> None:
    for name in ("../x", "a/b", "", "x" * 200, "-x"):
        assert not owners.claim(name, PODMAN)
        owners.release(name, PODMAN)
    assert not state.exists()


def test_without_a_place_to_write_nothing_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not owners.claim("kindcov-1-ab", PODMAN)
    assert owners.owners() == {}


HOLDER = """
import sys
from pytest_kindcov.cluster import engine, owners
try:
    print(owners.claim(sys.argv[1], engine.Engine("podman"), attached=True), flush=True)
except Exception as error:
    print(error, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_run(cluster: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that takes a cluster and goes on, and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline()
        process.kill()


def test_a_cluster_in_use_is_refused_and_its_holder_named() -> None:
    with another_run("kind") as (holder, said):
        assert said == "True\n"
        with pytest.raises(ClusterError) as refused:
            owners.claim("kind", PODMAN)
        assert refused.value.slug == "cluster-in-use"
        assert f"process {holder.pid} has it since 20" in refused.value.cause
        assert str(Path.cwd()) in refused.value.cause
        assert owners.owners()["kind"].pid == holder.pid
        assert owners.claim("kind", Engine("docker"))  # another one of that name
        holder.kill()
        holder.wait()
        assert owners.claim("kind", PODMAN)


def test_the_lock_alone_refuses(state: Path) -> None:
    """Whatever the note says, or does not say yet."""
    owners.claim("kind", PODMAN)
    (state / "kind.podman.json").unlink()
    with another_run("kind") as (_, said):
        assert said.startswith("cluster kind is in use")


def test_who_releases_lets_others_in(state: Path) -> None:
    owners.claim("kind", PODMAN)
    owners.release("kind", PODMAN)
    with another_run("kind") as (_, said):
        assert said == "True\n"


def test_what_a_dead_run_left_is_forgotten_whole(state: Path) -> None:
    with another_run("kindcov-1-ab") as (holder, _):
        owners.release("kindcov-1-ab", PODMAN)
        assert [path.suffix for path in state.iterdir()] == [".lock"]  # it lives
        holder.kill()
        holder.wait()
        owners.release("kindcov-1-ab", PODMAN)
        assert list(state.iterdir()) == []


def test_kept_cluster_is_free_for_others() -> None:
    owners.claim("kindcov-1-ab", PODMAN, key={"a": "b"})
    owners.keep("kindcov-1-ab", PODMAN)
    with another_run("kindcov-1-ab") as (_, said):
        assert said == "True\n"
        assert not owners.owners()["kindcov-1-ab"].kept


def test_what_was_noted_before_comes_back(state: Path) -> None:
    owners.claim("kindcov-1-ab", PODMAN, key={"a": "b"})
    owners.keep("kindcov-1-ab", PODMAN)
    kept = owners.owners()["kindcov-1-ab"]
    owners.claim("kindcov-1-ab", PODMAN, attached=True)
    owners.claim("kindcov-1-ab", PODMAN, attached=True)  # after a run that was killed
    assert owners.owners()["kindcov-1-ab"].attached
    owners.give_back("kindcov-1-ab", PODMAN)
    assert owners.owners()["kindcov-1-ab"] == kept
    assert [path.suffix for path in state.iterdir()] == [".json"]


def test_what_was_not_given_back_stays_noted(state: Path) -> None:
    owners.claim("kind", PODMAN, attached=True)
    owners.ledger("kind", PODMAN).touch()
    owners.give_back("kind", PODMAN)
    assert owners.owners()["kind"].attached
    owners.ledger("kind", PODMAN).unlink()
    owners.give_back("kind", PODMAN)
    assert list(state.iterdir()) == []


def test_clusters_that_runs_only_used_are_no_orphans() -> None:
    """They are not ours: nothing may ever remove them."""
    claimed("kind", 999_999, attached=True)
    claimed("gone", 999_999, attached=True)
    found = orphans.find(PODMAN, present("kind"))
    assert found.orphans == ()
    assert [owner.cluster for owner in found.borrowed] == ["kind"]
    assert set(owners.owners()) == {"kind"}
    claimed("kind", os.getpid(), attached=True)
    assert orphans.find(PODMAN, present("kind")) == orphans.Found((), (), ())
