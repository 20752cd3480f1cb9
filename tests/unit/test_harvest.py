"""From a node's archive to a summary; nothing in a pod's directory is trusted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.covdata.paths import Repository
from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.harvest import files, raw, verdict
from pytest_kindcov.harvest.inject import BASE
from pytest_kindcov.harvest.stop import Ends, stop
from pytest_kindcov.report.finish import Finished, finish
from pytest_kindcov.report.make import Run
from pytest_kindcov.report.tally import Summary, Tally, percent
from pytest_kindcov.report.terminal import table
from pytest_kindcov.report.wanted import Wanted
from pytest_kindcov.service.deploy import Deployed

if TYPE_CHECKING:
    from pathlib import Path

ID = "a" * 64
META = "covmeta." + "0" * 32
COUNTERS = f"covcounters.{'0' * 32}.1.1700000000000000000"


def archive(*entries: tuple[str, bytes | None]) -> bytes:
    """A tar archive; None stands for a symbolic link to /etc/passwd."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(f"./{name}")
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def state(**names: str) -> bytes:
    return json.dumps(
        {"annotations": {f"io.kubernetes.cri.{k.replace('_', '-')}": v for k, v in names.items()}}
    ).encode()


def test_unpack() -> None:
    data = archive(
        (
            f"{ID}/state.json",
            state(
                sandbox_namespace="ns", sandbox_name="pod", container_name="c", image_name="img:1"
            ),
        ),
        (f"{ID}/data/{META}", b"meta"),
        (f"{ID}/data/{COUNTERS}", b"counters"),
        (f"{ID}/data/tmp.{META}123", b"partial"),
    )
    (container,) = files.unpack(data, "node").containers
    assert (container.title, container.image) == ("ns/pod (c)", "img:1")
    assert container.files == {META: b"meta", COUNTERS: b"counters"}
    assert container.has_meta
    assert container.has_counters


def test_unpack_takes_nothing_strange() -> None:
    data = archive(
        (f"{ID}/data/{META}", None),
        (f"{ID}/data/sub/{COUNTERS}", b"deeper"),
        (f"{ID}/data/../../../etc/covmeta.{'1' * 32}", b"elsewhere"),
        (f"not-an-id/data/{META}", b"x"),
        (f"{ID}/data/notes.txt", b"x"),
        (f"{ID}/state.json", b"[]"),
    )
    collected = files.unpack(data, "node")
    assert [container.files for container in collected.containers] == [{}]
    assert len(collected.problems) == 1
    assert "is not a coverage file" in collected.problems[0]


def test_unpack_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 4)
    monkeypatch.setattr(files, "MAX_TOTAL", 6)
    data = archive(
        (f"{ID}/data/{META}", b"12345"),
        (f"{ID}/data/{COUNTERS}", b"123"),
    )
    collected = files.unpack(data, "node")
    assert collected.containers[0].files == {}
    assert len(collected.problems) == 2


def test_empty_node() -> None:
    assert files.unpack(b"", "node") == files.Collected([], [])


def test_raw_files_of_two_containers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one = files.Container(ID, "n", "ns", "p1", "c", files={META: b"m", COUNTERS: b"one"})
    two = files.Container("b" * 64, "n", "ns", "p2", "c", files={META: b"m", COUNTERS: b"two"})
    (tmp_path / "covdata").mkdir()
    (tmp_path / "covdata" / "covcounters.stale").write_bytes(b"of an earlier run")
    raw.write([one, two], tmp_path / "covdata")
    written = {path.name: path.read_bytes() for path in (tmp_path / "covdata").iterdir()}
    assert sorted(written.values()) == [b"m", b"one", b"two"]
    origin = json.loads((tmp_path / "covdata.json").read_text())
    assert set(origin) == set(written)


def test_explain() -> None:
    def cause(*containers: files.Container, said: str = "", ended: str = "") -> str:
        error = verdict.explain("web", "img:1", list(containers), {ID: said}, {ID: ended})
        return str(error) if error else ""

    def container(*names: str) -> files.Container:
        return files.Container(ID, "n", "ns", "p", "c", "img:1", dict.fromkeys(names, b""))

    assert cause(container(META, COUNTERS)) == ""
    assert "no container of its image" in cause()
    assert "exit code 137" in cause(container(META), ended="exit code 137 (OOMKilled)")
    assert "permission denied" in cause(container(), said="emit failed: permission denied")
    assert "not built with -cover" in cause(container())


def test_percent_never_rounds_to_the_ends() -> None:
    assert percent(0, 0) == "100.0%"
    assert percent(0, 5) == "0.0%"
    assert percent(5, 5) == "100.0%"
    assert percent(1, 100_000) == "0.1%"
    assert percent(99_999, 100_000) == "99.9%"
    assert percent(2, 3) == "66.7%"


def test_table_fits_the_terminal() -> None:
    summary = Summary([Tally("example.com/a/very/long/import/path/of/a/package", 10, 5)])
    for width in (60, 80, 200):
        lines = table(summary, width)
        assert max(map(len, lines)) <= width
    assert lines[2].split() == [
        "example.com/a/very/long/import/path/of/a/package",
        "10",
        "5",
        "50.0%",
    ]
    assert lines[-1].split() == ["TOTAL", "10", "5", "50.0%"]


def test_merge_equals_gos_own_figures(tmp_path: Path) -> None:
    """Two runs of a real program: our total is that of `go tool cover -func`, to the last digit."""
    (tmp_path / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (tmp_path / "main.go").write_text(
        'package main\n\nimport "os"\n\nfunc main() {\n\tif len(os.Args) > 1 {\n'
        '\t\tprintln("a")\n'
        '\t\tprintln("b")\n\t\treturn\n\t}\n\tprintln("c")\n}\n\n'
        'func unused() {\n\tprintln("d")\n}\n'
    )
    program, data = tmp_path / "program", tmp_path / "covdata"
    subprocess.run(["go", "build", "-cover", "-o", program, "."], cwd=tmp_path, check=True)
    data.mkdir()
    environment = {**os.environ, "GOCOVERDIR": str(data)}
    subprocess.run([program], env=environment, check=True)
    summary = _merged(tmp_path)
    assert summary.total.percent == _go_total(tmp_path) == "33.3%"
    subprocess.run([program, "x"], env=environment, check=True)
    summary = _merged(tmp_path)
    assert summary.total.percent == _go_total(tmp_path) == "83.3%"


def _finished(tmp_path: Path) -> Finished:
    return finish(tmp_path, Repository(tmp_path), Run(), Wanted())


def _merged(tmp_path: Path) -> Summary:
    done = _finished(tmp_path)
    assert done.report is not None
    assert (done.errors, done.report.issues) == ([], ())
    return done.report.summary


def _go_total(tmp_path: Path) -> str:
    command = ["go", "tool", "cover", f"-func={tmp_path / 'coverage.out'}"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return answer.stdout.split()[-1]


def test_damaged_files_are_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "covdata").mkdir()
    assert _finished(tmp_path) == Finished()
    (tmp_path / "covdata" / META).write_bytes(b"\0cvm damaged")
    done = _finished(tmp_path)
    assert done.report is None
    assert META in done.issues[0]
    assert not (tmp_path / "coverage.out").exists()


@pytest.mark.parametrize(
    ("ended", "seen", "kind"),
    [
        ("", None, "lost"),
        ("exit code 137 (OOMKilled)", verdict.Seen(1000.0, None), "killed"),
        ("exit code 2 (Error)", verdict.Seen(1000.0, None), "killed"),
        ("exit code 143 (Error)", verdict.Seen(1000.0, 0.1), "no-handler"),
        ("exit code 2 (Error)", verdict.Seen(1000.0, 0.1), "no-handler"),
        ("exit code 0 (Completed)", verdict.Seen(1000.0, 0.1), "killed"),
        ("", verdict.Seen(1000.0, 0.1), "no-handler"),
        ("exit code 137 (Error)", verdict.Seen(1000.0, 3.0), "overran"),
        ("", verdict.Seen(1000.0, 9.5), "overran"),
    ],
)
def test_verdicts(ended: str, seen: verdict.Seen | None, kind: str) -> None:
    container = files.Container(ID, "n", "shop", "web-1", "web", "img:1", {META: b""})
    ends = Ends(reasons={ID: ended} if ended else {}, grace={ID: 10.0})
    (found,) = verdict.judge([container], ends, {ID: seen} if seen else {})
    assert found.kind == kind
    assert "shop/web-1 (web)" in str(found)
    assert found.loses == (kind != "no-handler")
    assert f"kindcov_allow = {kind}" in str(found.error())
    assert found.allowed([kind])
    assert found.allowed([f"{kind}:shop/*/web"])
    assert not found.allowed([f"{kind}:other/*", "killed-not"])


def test_last_lines_of_what_ended_by_itself_are_shown() -> None:
    ended = {"terminated": {"containerID": f"containerd://{ID}", "exitCode": 2, "reason": "Error"}}
    pod = {
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u"},
        "spec": {},
        "status": {
            "containerStatuses": [
                {"name": "web", "containerID": "containerd://new", "lastState": ended, "state": {}}
            ]
        },
    }
    asked = []

    def logs(*where: str, previous: bool, lines: int) -> str:
        asked.append((*where, previous))
        return "panic: asked to\n\ngoroutine 1 [running]:\n"

    api: Any = SimpleNamespace(list=lambda *_: [pod], logs=logs)
    container = files.Container(ID, "n", "shop", "web-1", "web", "img:1", {META: b""})
    ends = stop(api, [container], set())
    assert asked == [("shop", "web-1", "web", True)]
    (found,) = verdict.judge([container], ends, {ID: verdict.Seen(1000.0, None)})
    assert "its log ends with:" in str(found.error())
    assert "    panic: asked to" in str(found.error())


def test_containers_with_exit_files_need_no_verdict() -> None:
    container = files.Container(ID, "n", files={META: b"", COUNTERS: b""})
    assert verdict.judge([container, files.Container(ID, "n")], Ends(), {}) == []


def test_containers_of_a_service_are_known_by_their_workload() -> None:
    """Of equal images of two services containerd may report one name for both."""

    def container(pod: str, name: str = "web", image: str = "a:1") -> files.Container:
        return files.Container(ID, "n", "shop", pod, name, image)

    def service(name: str, image: str, kind: str = "Deployment") -> Deployed:
        workloads = (("shop", kind, name),)
        return Deployed(name, image, "", workloads, frozenset({"web"}), frozenset({"shop"}))

    first, second = container("a-6d5f-x2x4z"), container("b-6d5f-x2x4z")
    both = [first, second, container("a-b-6d5f-x2x4z"), container("a-6d5f-x2x4z", "side")]
    assert verdict.containers_of(service("a", "a:1"), both) == [first]
    assert verdict.containers_of(service("b", "b:1"), both) == [second]
    operated = [container("made-by-operator", image="c:1")]
    assert verdict.containers_of(service("c", "c:1"), operated) == operated


def test_archive_takes_what_is_coverage_and_nothing_else(tmp_path: Path) -> None:
    """As the node makes it: of a hostile container its own files still come, and all of others."""
    honest, hostile = "a" * 64, "b" * 64
    for identity in (honest, hostile):
        data = tmp_path / "containers" / identity / "data"
        data.mkdir(parents=True)
        (data.parent / "state.json").write_text("{}")
        (data / META).write_bytes(b"meta")
        (data / COUNTERS).write_bytes(b"counters")
    (data / f"covmeta.{'1' * 32}").symlink_to("/etc/passwd")
    (data / f"covmeta.{'2' * 32}").hardlink_to(data / META)
    os.mkfifo(data / f"covcounters.{'0' * 32}.2.1")
    (data / f"covmeta.{'0' * 32}\n").write_bytes(b"x")
    (data / "-rf").write_bytes(b"x")
    big = data / f"covcounters.{'0' * 32}.3.1"
    big.touch()
    os.truncate(big, files.MAX_FILE)
    script = files._ARCHIVE.replace(BASE, str(tmp_path))
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    first, second = files.unpack(done.stdout, "node").containers
    assert (first.id, set(first.files)) == (honest, {META, COUNTERS})
    assert set(second.files) == {META, COUNTERS, f"covmeta.{'2' * 32}"}
    left_out = {line.rpartition("/")[2] for line in done.stderr.decode().splitlines()}
    assert left_out == {f"covmeta.{'1' * 32}", big.name, f"covcounters.{'0' * 32}.2.1"}


def test_of_too_many_files_the_newest_are_taken(tmp_path: Path) -> None:
    """A program writes its own when it ends, after all others that it may have left."""
    data = tmp_path / "containers" / ID / "data"
    data.mkdir(parents=True)
    names = [f"covcounters.{'0' * 32}.{number}.1" for number in range(30)]
    for number, name in enumerate(names):
        (data / name).touch()
        os.utime(data / name, (0, number * 7 % 30))
    script = files._ARCHIVE.replace(BASE, str(tmp_path)).replace(
        f"-n {files.MAX_FILES + 1} ", "-n 3 "
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    (container,) = files.unpack(done.stdout, "node").containers
    assert set(container.files) == {name for n, name in enumerate(names) if n * 7 % 30 > 26}


def test_too_many_files_cost_only_their_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 3)
    names = [f"covcounters.{'0' * 32}.{number}.1" for number in range(5)]
    other = "b" * 64
    entries = [(f"{ID}/data/{name}", b"") for name in names] + [(f"{other}/data/{META}", b"m")]
    found = files.unpack(archive(*entries), "node")
    assert [len(container.files) for container in found.containers] == [3, 1]
    assert found.problems == ["/ (): files skipped, more than is plausible"]


def test_meta_data_that_a_pod_damaged_are_taken_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SimpleNamespace(hash=bytes(16))

    def read(data: bytes) -> SimpleNamespace:
        if data != b"whole":
            raise CoverageDataError("truncated")
        return whole

    monkeypatch.setattr("pytest_kindcov.covdata.meta.read", read)
    for order in (1, -1):
        containers = [
            files.Container("a" * 64, "n", files={META: b"who"}),
            files.Container("b" * 64, "n", files={META: b"whole"}),
        ][::order]
        raw.write(containers, tmp_path / "covdata")
        assert (tmp_path / "covdata" / META).read_bytes() == b"whole"
