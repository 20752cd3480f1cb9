"""The recorder on real processes: what ran is booked once, to what was under way."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gocover import Go
from localnode import CONTAINER, LIVE, Proc, local_node

from pytest_kindcov.covdata import counters, meta
from pytest_kindcov.covdata.model import merge
from pytest_kindcov.covdata.paths import Repository
from pytest_kindcov.harvest import files, record
from pytest_kindcov.harvest.live import NodeReader
from pytest_kindcov.harvest.run import harvest
from pytest_kindcov.harvest.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localnode import Service

    from pytest_kindcov.covdata.model import Counters

EVEN, ODD = "even", "odd"
RUNNING: dict[str, dict[str, str]] = {"running": {}}


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Go().build(LIVE, tmp_path_factory.mktemp("live") / "live", "-covermode=atomic")


class Cluster:
    """One node, which is this machine; one container; and a recorder."""

    def __init__(self, place: Path, program: Path) -> None:
        self.data = place / "containers" / CONTAINER / "data"
        self.data.mkdir(parents=True)
        names = {"sandbox-namespace": "shop-gw0", "sandbox-name": "web-1", "container-name": "web"}
        notes = {f"io.kubernetes.cri.{key}": value for key, value in names.items()}
        (self.data.parent / "state.json").write_text(json.dumps({"annotations": notes}))
        (place / "proc").mkdir()
        self.proc = Proc(place / "proc")
        self.running = Running()
        self.worker_of: dict[str, str] = {}
        self.program = program

    def start(self) -> Service:
        return self.proc.start(self.program, data=self.data)

    def record(self) -> record.Recorder:
        return record.Recorder([local_node()], self.running, self.worker_of.get, 0)

    def collected(self, data: Path | None = None, identity: str = CONTAINER) -> files.Container:
        """The container, or one like it, as the harvest collects it."""
        found = {file.name: file.read_bytes() for file in (data or self.data).iterdir()}
        return files.Container(identity, "node", "shop-gw0", "web-1", "web", "web:1", found)


@pytest.fixture
def cluster(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster(tmp_path, program)
    monkeypatch.setattr(record, "BASE", str(tmp_path))
    monkeypatch.setattr(record, "NodeReader", partial(NodeReader, proc=str(made.proc.path)))
    yield made
    made.proc.close()


def functions(recorder: record.Recorder) -> dict[str, set[str]]:
    """By context, names of the functions that ran."""
    metas, ran = recorder.contexts(lambda _: ())
    found: dict[str, set[str]] = {}
    for name, builds in ran.items():
        for build, units in builds.items():
            known = metas[build]
            at = known.function_units.searchsorted(units, side="right") - 1
            names = {known.strings[known.function_name[number]] for number in at}
            found.setdefault(name, set()).update(names)
    return found


def during(cluster: Cluster, recorder: record.Recorder, name: str, *words: str) -> None:
    recorder.change(lambda: cluster.running.enter("gw0", name))
    for word in words:
        cluster.proc.processes[-1].do(word)
    recorder.settle(0.001, 5)
    recorder.change(lambda: cluster.running.leave("gw0"))


def total(container: files.Container) -> tuple[Counters, bytes]:
    """The sum of all counter files of a container."""
    (name,) = [name for name in container.files if files.META.fullmatch(name)]
    known = meta.read(container.files[name])
    vectors = [
        segment.counters
        for name, data in container.files.items()
        if files.COUNTERS.fullmatch(name)
        for segment in counters.read(data, known)
    ]
    return merge(known.mode, vectors), known.hash


def test_tests_get_what_they_ran(cluster: Cluster) -> None:
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    during(cluster, recorder, "a", "even")
    during(cluster, recorder, "b", "odd", "even")
    during(cluster, recorder, "nothing")
    assert recorder.newly("b") == 2  # the call, and what is called
    cluster.proc.processes[-1].end()
    recorder.close()
    recorder.complete([cluster.collected()])
    ran = functions(recorder)
    assert EVEN in ran["a"]
    assert ODD not in ran["a"]
    assert {EVEN, ODD} <= ran["b"]
    assert "nothing" not in ran
    assert ran["[startup]"] == {"main"}


def test_every_count_is_booked_once(cluster: Cluster) -> None:
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    for number in range(5):
        during(cluster, recorder, f"t{number}", *["even"] * number, "odd")
    cluster.proc.processes[-1].do("odd")  # while nothing is under way
    recorder.read()
    recorder.stopping()
    cluster.proc.processes[-1].do("even")
    cluster.proc.processes[-1].end()
    recorder.close()
    container = cluster.collected()
    recorder.complete([container])
    (live,) = recorder.lives.values()
    assert live.account is not None
    booked = live.account.idle.copy()
    for window in live.account.windows:
        booked[window.units] += window.counts
    assert booked.tolist() == total(container)[0].tolist()


@pytest.mark.parametrize("moment", ["while files are collected", "after the last reading"])
def test_what_begins_in_the_moment_of_the_stop_loses_nothing(
    moment: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's restart then: it was never read and ended without a file: not a loss."""
    restarted = "d" * 64
    later = tmp_path / "containers" / restarted / "data"
    first = cluster.start()
    recorder = cluster.record()
    during(cluster, recorder, "a", "even")
    first.process.kill()  # by a test, which is allowed
    first.process.wait()
    recorder.read()
    later.mkdir(parents=True)
    (later.parent / "state.json").write_text((cluster.data.parent / "state.json").read_text())
    stopping = recorder.stopping

    def begin() -> None:
        program = cluster.proc.start(cluster.program, data=later)
        cluster.proc.move(program.pid, restarted)

    def stop() -> None:
        stopping()
        if moment == "after the last reading":
            begin()

    monkeypatch.setattr(recorder, "stopping", stop)
    collected: list[list[files.Container]] = []

    def collect() -> files.Collected:
        containers = [cluster.collected(), cluster.collected(later, restarted)]
        if moment == "while files are collected" and not collected:
            begin()
        collected.append(containers)
        return files.Collected(containers, [])

    pod = {
        "metadata": {"name": "web-1", "namespace": "shop-gw0", "uid": "u"},
        "spec": {},
        "status": {
            "containerStatuses": [
                {"name": "web", "containerID": f"containerd://{restarted}", "state": RUNNING}
            ]
        },
    }
    pods = [pod]

    def delete(*_: object) -> None:
        pods.clear()
        last = cluster.proc.processes[-1].process
        last.kill()
        last.wait()

    api: Any = SimpleNamespace(list=lambda *_: list(pods), delete=delete)
    probes: Any = SimpleNamespace(learn=lambda *_: None, periods=lambda _: (), known=lambda *_: [])
    result = harvest(
        api,
        [local_node()],
        [],
        tmp_path / "out",
        own=Repository(tmp_path),
        live=(recorder, probes),
        allow=["killed"],
        collect=collect,
    )
    assert [str(error) for error in result.errors] == []
    assert [one.verdict for one in result.containers] == ["killed"]
    assert result.extent == "1 container, 2 files, 1 node"


def test_killed_process_counts_by_what_was_read(cluster: Cluster) -> None:
    service = cluster.start()
    recorder = cluster.record()
    recorder.read()
    during(cluster, recorder, "a", "even", "even", "odd")
    service.process.kill()
    service.process.wait()
    recorder.close()
    container = cluster.collected()
    assert not container.has_counters
    assert recorder.seen([container])[CONTAINER].stopping is None
    recorder.complete([container])
    (live,) = recorder.lives.values()
    assert live.last is not None
    assert total(container)[0].tolist() == live.last.tolist()
    assert {EVEN, ODD} <= functions(recorder)["a"]


def test_process_that_was_never_read_is_booked_by_its_file(cluster: Cluster) -> None:
    recorder = cluster.record()
    recorder.read()
    recorder.change(lambda: cluster.running.enter("", "job"))
    service = cluster.start()
    service.do("odd")
    service.end()
    (cluster.proc.path / str(service.pid) / "cgroup").unlink()
    recorder.change(lambda: cluster.running.leave(""))
    recorder.close()
    recorder.complete([cluster.collected()])
    assert ODD in functions(recorder)["job"]


def test_workers_of_one_instance_share_it(cluster: Cluster) -> None:
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    recorder.change(lambda: cluster.running.enter("gw0", "a"))
    recorder.change(lambda: cluster.running.enter("gw1", "b"))
    cluster.proc.processes[-1].do("odd")
    recorder.change(lambda: cluster.running.leave("gw1"))
    cluster.proc.processes[-1].do("even")
    recorder.change(lambda: cluster.running.leave("gw0"))
    recorder.close()
    recorder.complete([cluster.collected()])
    ran = functions(recorder)
    assert ODD in ran["a [shared]"]
    assert ODD in ran["b [shared]"]
    assert EVEN in ran["a"]
    assert "b" not in ran


def test_instance_of_one_worker_is_its_own(cluster: Cluster) -> None:
    cluster.worker_of["shop-gw0"] = "gw0"
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    recorder.change(lambda: cluster.running.enter("gw0", "a"))
    recorder.change(lambda: cluster.running.enter("gw1", "b"))
    cluster.proc.processes[-1].do("odd")
    recorder.change(lambda: cluster.running.drop("gw1"))
    recorder.change(lambda: cluster.running.leave("gw0"))
    recorder.close()
    recorder.complete([cluster.collected()])
    ran = functions(recorder)
    assert ODD in ran["a"]
    assert not any(name.startswith("b") and name != "background" for name in ran)


@pytest.mark.parametrize("together", [0, 1])
def test_settling_waits_for_what_goes_on(
    cluster: Cluster, together: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of waiting: by the node, and, when it takes longer, here."""
    monkeypatch.setattr(record, "_TOGETHER", together)
    quiet = 0.3
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    recorder.change(lambda: cluster.running.enter("gw0", "a"))
    over = threading.Event()

    def work() -> None:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            cluster.proc.processes[-1].do("odd")
        over.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert recorder.settle(quiet, 20)
    assert over.is_set()
    worker.join()
    begin = time.monotonic()
    assert recorder.settle(quiet, 20)
    assert time.monotonic() - begin >= quiet
    recorder.change(lambda: cluster.running.leave("gw0"))
    recorder.close()


def test_other_containers_are_forgotten(cluster: Cluster) -> None:
    cluster.start()
    recorder = cluster.record()
    recorder.read()
    recorder.close()
    recorder.complete([])
    assert functions(recorder) == {}


def test_defect_of_the_recorder_is_named_and_breaks_no_test(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr(record, "readings", broken)
    recorder = cluster.record()
    during(cluster, recorder, "a")
    recorder.close()
    assert recorder.problems == ["not read live: unexpected ZeroDivisionError: somewhere"]


def test_meta_data_that_never_come_are_looked_for_ever_more_seldom(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look cost 10 ms, at every reading, of each process that cannot write them."""
    cluster.start()
    recorder = cluster.record()
    looks = []
    monkeypatch.setattr(NodeReader, "files", lambda *_: looks.append(1) or {})  # type: ignore[func-returns-value]
    begin = time.monotonic()
    while time.monotonic() - begin < 2:
        recorder.read()
    assert 1 < len(looks) < 20
    recorder.stopping()
    assert len(looks) < 22
    monkeypatch.undo()
    recorder.close()


def test_polling_sees_what_nothing_asks_for(cluster: Cluster) -> None:
    """A process that is killed before anything else is read lost less than the interval."""
    service = cluster.start()
    recorder = record.Recorder([local_node()], cluster.running, cluster.worker_of.get, 0.2)
    deadline = time.monotonic() + 20
    while not any(live.account for live in recorder.lives.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    service.do("odd")
    time.sleep(0.3)
    service.process.kill()
    service.process.wait()
    recorder.close()
    container = cluster.collected()
    recorder.complete([container])
    assert any(ODD in names for names in functions(recorder).values())
    assert container.has_counters
