"""Why a cluster did not come up: the catalogue, on recorded outputs of real failures."""

from __future__ import annotations

import gzip
import re
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_kindcov._text import Secrets
from pytest_kindcov.cluster import diagnose, failure, logs, watch
from pytest_kindcov.cluster.engine import Engine
from pytest_kindcov.errors import ClusterError, CommandError

RECORDED = Path(__file__).parents[1] / "recorded"
SOURCE = {"kind": "kind", "boot": "boot", "journal": "node", "pods": "pods"}


def recorded(name: str) -> str:
    """What a real kind, node or pod said."""
    path = RECORDED / name
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def texts(*names: str) -> dict[str, str]:
    return {SOURCE[name.partition("-")[0]]: recorded(name) for name in names}


@pytest.mark.parametrize("entry", diagnose.catalogue(), ids=lambda entry: entry.slug)
def test_entry_finds_its_sample_first_of_all(entry: diagnose.Entry) -> None:
    for source in entry.where:
        found = diagnose.findings({source: f"before\n{entry.sample}\nafter"})
        assert found[0].entry is entry, [each.entry.slug for each in found]
        assert found[0].source == source
        assert "before" not in found[0].lines[0]


def test_catalogue_is_well_formed() -> None:
    entries = diagnose.catalogue()
    slugs = [entry.slug for entry in entries]
    assert len(set(slugs)) == len(slugs) > 60
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", entry.slug)
        assert set(entry.where) <= set(diagnose.SOURCES)
        assert entry.cause
        assert entry.remedy
        assert not entry.cause.endswith(".")
        assert not entry.pattern.search("")


def test_nothing_is_found_where_all_is_well() -> None:
    """A node that is well complains a lot: of a missing network, of etcd, of other containers."""
    well = texts("kind-ok.txt", "boot-ok.txt", "journal-ok.txt.gz", "pods-ok.txt.gz")
    assert "out of memory" in well["node"]  # of another cluster: the kernel is the host's
    assert diagnose.findings(well) == []


@pytest.mark.parametrize(
    "name", sorted(path.name for path in RECORDED.glob("kind-*") if "ok" not in path.name)
)
def test_recorded_failure(name: str) -> None:
    slug = name.removeprefix("kind-").removesuffix(".txt")
    assert diagnose.findings(texts(name))[0].entry.slug == slug


def test_node_explains_what_kind_cannot() -> None:
    """kind only says that the kubelet is not healthy; the reason is in the node's journal."""
    found = diagnose.findings(
        texts("kind-kubelet-unhealthy.txt", "journal-feature-gate-unknown.txt.gz")
    )
    assert found[0].entry.slug == "feature-gate-unknown"
    assert "NoSuchGate" in found[0].lines[-1]
    assert len(found[0].lines) == 1  # 160 times the same, but for time and process


def test_unknown_reason_shows_the_last_words() -> None:
    node = "12:00 node kubelet[7]: E0101 10:00:00.1 kubelet.go:1] the moon is full\nmore\n"
    found = diagnose.findings({**texts("kind-kubelet-unhealthy.txt"), "node": node})
    assert found[0].entry.slug == "kubelet-unhealthy"
    assert "the moon is full" in found[0].lines[-1]


def test_lines_are_fit_for_a_terminal() -> None:
    noise = "x" * 50_000
    text = f"\x1b[31m{noise} no space left on device \x07{noise}\x1b]0;title\x07"
    (found,) = diagnose.findings({"kind": text})
    (line,) = found.lines
    assert "no space left on device" in line
    assert len(line) < 400
    assert line.isprintable()


def test_megabytes_take_no_time() -> None:
    node = recorded("journal-ok.txt.gz")
    begin = time.process_time()
    diagnose.findings(dict.fromkeys(diagnose.SOURCES, node * 14))  # 4 MB each
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("DB_PASSWORD", "hunter22", True),
        ("GITHUB_TOKEN", "ghp_0123456789", True),
        ("AWS_SECRET_ACCESS_KEY", "abcdefgh", True),
        ("HTTPS_PROXY", "http://me:hunter22@proxy:1", True),
        ("TOKEN", "short", False),
        ("HOME", "/home/somebody", False),
    ],
)
def test_secrets_are_hidden(name: str, value: str, hidden: bool) -> None:
    text = f"command -e {name}={value} failed"
    shown = Secrets({name: value}).hide(text)
    assert (shown != text) is hidden
    if hidden:
        assert "hunter22" not in shown
        assert "[secret]" in shown


def test_secret_of_many_lines_is_hidden_line_by_line() -> None:
    key = "-----BEGIN-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END-----"
    shown = Secrets({"SSH_PRIVATE": key}).hide("it says DDDDEEEEFFFF there")
    assert shown == "it says [secret] there"
    assert Secrets({}).hide("nothing") == "nothing"


ENGINE = """#!/bin/bash
case "$1 $*" in
  *hang*) sleep 60 ;;
  inspect*) echo "State: exited, exit code 137, OOMKilled" ;;
  logs*) printf 'booting \\033[1m$DB_PASSWORD\\033[0m\\n' ;;
  *"get pods"*) cat "$PODS" ;;
  *"get events"*) echo "Warning  BackOff pod/web of hunter22" ;;
  *"-u kubelet"*) exit 3 ;;
  *pods*) printf '=== kube-system_etcd_1/etcd/0.log\\nno space left on device $DB_PASSWORD\\n'
          printf '=== shop_web_2/web/1.log\\nOOMKilled from-the-pod-spec\\n' ;;
  *journalctl*) echo "a journal" ;;
esac
"""
PODS = """{"items": [{"metadata": {"namespace": "shop", "name": "web"},
 "spec": {"containers": [{"name": "web", "image": "web:1", "args": ["--key=argument-secret"],
  "env": [{"name": "API_TOKEN", "value": "from-the-pod-spec"}, {"name": "A", "value": "plain"}]}]},
 "status": {"phase": "Running", "containerStatuses": [{"name": "web", "restartCount": 2,
  "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}]}"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine whose nodes say what is in `ENGINE`."""
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    monkeypatch.setenv("PODS", str(tmp_path / "pods.json"))
    (tmp_path / "pods.json").write_text(PODS)
    program.write_text(ENGINE.replace("$DB_PASSWORD", "hunter22"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return Engine("podman")


def test_logs_of_a_cluster(engine: Engine, tmp_path: Path) -> None:
    nodes = ["x-worker", "x-control-plane"]
    found = logs.collect(engine, nodes, output="kind says hunter22")
    found.save(tmp_path / "logs" / "x")
    written = {
        str(path.relative_to(tmp_path / "logs/x")): path.read_text()
        for path in (tmp_path / "logs/x").rglob("*")
        if path.is_file()
    }
    each = {"state.txt", "boot.log", "journal.log", "kubelet.log", "containerd.log"}
    each |= {"containers.txt", "host.txt", "pod-logs.txt"}
    assert set(written) == {"kind.log", "events.txt", "pods.txt"} | {
        f"{node}/{name}" for node in nodes for name in each
    }
    everything = "".join(written.values())
    for secret in ("hunter22", "from-the-pod-spec", "argument-secret", "\x1b"):
        assert secret not in everything, secret
    assert written["kind.log"] == "kind says [secret]"
    assert "BackOff" in written["events.txt"]
    assert "CrashLoopBackOff" in written["pods.txt"]
    assert "not collected: podman exec" in written["x-worker/kubelet.log"]
    assert (tmp_path / "logs/.gitignore").read_text() == "*\n"
    slugs = [finding.entry.slug for finding in diagnose.findings(found.texts())]
    assert slugs == ["out-of-memory", "disk-full"]  # the service's own log is no cause


def test_logs_have_a_deadline(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_COMMAND", 0.3)
    begin = time.monotonic()
    found = logs.collect(engine, ["hang-control-plane"])
    assert time.monotonic() - begin < 5
    assert "did not end within" in found.files["hang-control-plane/journal.log"]
    assert "takes too long" in found.files["hang-control-plane/pod-logs.txt"]


def test_old_logs_are_removed_and_others_left(tmp_path: Path) -> None:
    (tmp_path / "kindcov-mine").mkdir()
    (tmp_path / "precious").mkdir()
    for number in range(8):
        logs.Logs({"kind.log": "x", "n/a": "y"}).save(tmp_path / f"kindcov-{number}-ab1{number}")
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert {"kindcov-mine", "precious", "kindcov-7-ab17"} < left
    assert len(left) == 2 + 5


@pytest.mark.parametrize("pod", [{}, {"metadata": None, "spec": None, "status": None}])
def test_odd_pod_is_described(pod: dict[str, Any]) -> None:
    assert logs.describe(pod)


def test_error_has_cause_remedy_lines_and_place(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "nodes", lambda self, cluster: [f"{cluster}-control-plane"])
    error = CommandError("kind failed", output=recorded("kind-port-taken.txt") + "hunter22")
    found = failure.explain("no cluster", error, engine, "x", tmp_path / "logs")
    assert isinstance(found, ClusterError)
    assert found.slug == "port-taken"
    text = str(found)
    assert text.startswith("no cluster [port-taken]\n  cause: a port of this host")
    assert "127.0.0.1:34567: bind: address already in use" in text
    assert "remedy: `ss -ltnp`" in text
    assert f"logs: {tmp_path}/logs/x" in text
    assert "hunter22" not in text
    assert "also seen: a disk is full" in text
    assert (tmp_path / "logs/x/kind.log").stat().st_mode & stat.S_IRUSR


def test_unknown_failure_keeps_kinds_words(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nodes(self: Engine, cluster: str) -> list[str]:
        raise CommandError("cannot list the nodes", cause="hunter22 is gone")

    monkeypatch.setattr(Engine, "nodes", nodes)
    error = CommandError("kind failed", output=" • Preparing\n ✗ Preparing\nERROR: a new one\n")
    text = str(failure.explain("no cluster", error, engine, "x", tmp_path))
    assert "no cluster [cluster-not-created]\n  cause: ERROR: a new one" in text
    assert "Preparing" not in text
    assert "there are no logs: cannot list the nodes: [secret] is gone" in text
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Engine, "nodes", lambda self, cluster: ["x-control-plane"])
    text = str(failure.explain("no cluster", error, engine, "x", tmp_path / "file"))
    assert "the logs could not be saved" in text


WATCHED = """#!/bin/bash
[ "$1" = exec ] && cat "$RESTARTS"
"""


@pytest.mark.parametrize(("restarts", "hopeless"), [("0", False), ("3", False), ("57", True)])
def test_kubelet_that_dies_at_once_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: str, hopeless: bool
) -> None:
    monkeypatch.setattr(watch, "_FIRST", 0.05)
    monkeypatch.setattr(watch, "_LOOK", 0.05)
    monkeypatch.setattr(Engine, "nodes", lambda self, cluster: ["x-control-plane"])
    monkeypatch.setenv("RESTARTS", str(tmp_path / "restarts"))
    (tmp_path / "restarts").write_text(f"{restarts}\n")
    (tmp_path / "podman").write_text(WATCHED)
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cancel = threading.Event()
    seen = watch.Watch(Engine("podman"), "x", cancel)
    deadline = time.monotonic() + (10 if hopeless else 0.5)
    while not seen.is_set() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen.is_set() is hopeless
    assert bool(seen.why) is hopeless
    cancel.set()
    assert seen.is_set()
    seen.close()
    if hopeless:
        (found,) = diagnose.findings({"kind": seen.why})
        assert found.entry.slug == "kubelet-unhealthy"
