"""The counters of running Go programs, read from this machine's memory as from a node's."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gocover import Go
from hypothesis import given
from hypothesis import strategies as st
from localnode import CONTAINER, LIVE, LocalEngine, Proc, local_node, without_perl

from pytest_kindcov.cluster.node import Node
from pytest_kindcov.covdata import counters, memory, meta
from pytest_kindcov.errors import ClusterError, CoverageDataError
from pytest_kindcov.harvest import elf, live
from pytest_kindcov.harvest.live import NodeReader, Reading, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Build = Callable[..., Path]

PLAIN = ("-covermode=count",)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The program `live`, built once for each choice of flags."""
    done: dict[tuple[str, ...], Path] = {}

    def built(*flags: str, cgo: str = "0") -> Path:
        key = (*flags, cgo)
        if key not in done:
            directory = tmp_path_factory.mktemp("live")
            done[key] = Go().build(LIVE, directory / "live", *PLAIN, *flags, cgo=cgo)
        return done[key]

    return built


@pytest.fixture
def proc(tmp_path: Path) -> Iterator[Proc]:
    path = tmp_path / "proc"
    path.mkdir()
    made = Proc(path)
    yield made
    made.close()


@pytest.fixture(params=["perl", "bash"])
def reader(request: pytest.FixtureRequest, proc: Proc, tmp_path: Path) -> Iterator[NodeReader]:
    node = local_node() if request.param == "perl" else without_perl(tmp_path / "tools")
    made = NodeReader(node, proc=str(proc.path))
    yield made
    made.close()


def read(reader: NodeReader) -> Reading:
    ((reading,),) = readings([reader])
    assert reading.error is None
    return reading


def wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def nothing(reading: Reading) -> bool:
    return (reading.started, reading.changed, reading.gone) == ([], {}, [])


def test_equals_the_exit_file(reader: NodeReader, proc: Proc, build: Build, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    service = proc.start(build(), data=data)
    first = read(reader)
    (process,) = first.started
    assert (process.pid, process.inner_pid, process.container) == (
        service.pid,
        service.pid,
        CONTAINER,
    )
    assert process.size == first.changed[process].nbytes > 0
    command = [Go().command, "tool", "buildid", str(build())]
    assert process.build_id == subprocess.check_output(command, text=True).strip()
    assert nothing(read(reader))
    service.do("even")
    words = read(reader).changed[process]
    (file,) = data.glob("covmeta.*")
    program = meta.read(file.read_bytes())
    region = memory.Region(program)
    before = region.counters(first.changed[process])
    after = region.counters(words)
    assert program.covered_statements(after) > program.covered_statements(before) > 0
    for word in ("odd", "even", "odd"):
        service.do(word)
    words = read(reader).changed[process]
    service.end()
    (exit_file,) = data.glob("covcounters.*")
    (segment,) = counters.read(exit_file.read_bytes(), program)
    assert (region.counters(words) == segment.counters).all()
    assert segment.counters.max() >= 2
    reading = read(reader)
    assert (reading.started, reading.changed, reading.gone) == ([], {}, [process])
    assert nothing(read(reader))
    assert reader.problems == []


@pytest.mark.parametrize(
    ("flags", "cgo"),
    [
        (("-ldflags=-s -w",), "0"),
        (("-buildmode=pie",), "0"),
        (("-buildmode=pie", "-ldflags=-s -w"), "0"),
        (("-ldflags=-linkmode=external",), "1"),
        (("-ldflags=-linkmode=external -s -w", "-buildmode=pie"), "1"),
    ],
    ids=["stripped", "pie", "stripped-pie", "cgo", "cgo-stripped-pie"],
)
def test_ways_to_build(
    flags: tuple[str, ...], cgo: str, proc: Proc, build: Build, tmp_path: Path
) -> None:
    """Two of each, so that the second is read by what the first taught."""
    if cgo == "1" and not shutil.which("gcc"):
        pytest.skip("no C compiler")
    program = build(*flags, cgo=cgo)
    services = [proc.start(program, data=tmp_path / "none") for _ in range(2)]
    reader = NodeReader(local_node(), proc=str(proc.path))
    try:
        reading = read(reader)
        by_pid = {process.pid: process for process in reading.started}
        assert by_pid.keys() == {service.pid for service in services}
        assert len({process.build_id for process in by_pid.values()}) == 1
        for service in services:
            before = reading.changed[by_pid[service.pid]]
            assert before.any()
            service.do("odd")
            changed = read(reader).changed
            assert list(changed) == [by_pid[service.pid]]
            difference = changed[by_pid[service.pid]] - before
            # odd's record, the loop's units and the case's: each ran once, but for odd's head.
            assert 3 <= np.count_nonzero(difference) <= 8
        assert reader.problems == []
    finally:
        reader.close()


def test_other_programs(reader: NodeReader, proc: Proc, build: Build, tmp_path: Path) -> None:
    """Without -cover, not Go, or nothing that can be analysed: skipped, the last with its name."""
    go = Go()
    plain = tmp_path / "plain"
    command = [go.command, "build", "-o", str(plain), "."]
    environment = {**go.environment, "CGO_ENABLED": "0"}
    subprocess.run(command, cwd=LIVE, env=environment, check=True)
    proc.start(plain)
    packed = tmp_path / "packed"
    image = bytearray(build().read_bytes())
    image[40:48] = bytes(8)  # where the section headers are
    image[60:62] = bytes(2)  # and how many
    packed.write_bytes(image)
    packed.chmod(0o755)
    proc.start(packed)
    proc.start(packed)
    with subprocess.Popen(["sleep", "60"]) as sleep:
        proc.add(sleep.pid)
        service = proc.start(build())
        try:
            reading = read(reader)
            assert [process.pid for process in reading.started] == [service.pid]
            assert nothing(read(reader))
            (problem,) = reader.problems
            assert "no section headers" in problem
            assert CONTAINER[:12] in problem
        finally:
            sleep.kill()


def test_containers_only(reader: NodeReader, proc: Proc, build: Build) -> None:
    """A process of the node's own is nothing to us until it is moved into a container."""
    (proc.path / "1").mkdir(exist_ok=True)
    (proc.path / "1" / "cgroup").write_text(f"0::/docker/{'e' * 64}\n")
    for cgroup in ("", "e" * 64, "a" * 63, "a" * 65):
        proc.move(proc.start(build()).pid, cgroup)
        assert nothing(read(reader))
    for outside in (True, False):  # at the next look at all; and at once
        service = proc.processes[-1] if outside else proc.start(build())
        proc.move(service.pid, "a" * 64)
        found: list[live.Process] = []
        begin = time.monotonic()
        while not found and time.monotonic() - begin < 3:
            found = read(reader).started
        (process,) = found
        assert (process.pid, process.container) == (service.pid, "a" * 64)


def test_becomes_another_program(reader: NodeReader, proc: Proc, build: Build) -> None:
    service = proc.start(build())
    (first,) = read(reader).started
    service.do("again", answer="ready")
    reading = read(reader)
    assert reading.gone == [first]
    (second,) = reading.started
    assert (second.pid, second.started) == (first.pid, first.started)
    assert second != first
    service.do("cat", answer="")
    wait(lambda: Path(f"/proc/{service.pid}/comm").read_text() == "cat\n")
    reading = read(reader)
    assert (reading.started, reading.changed, reading.gone) == ([], {}, [second])
    assert nothing(read(reader))


def test_a_shell_that_becomes_the_program(
    reader: NodeReader, proc: Proc, build: Build, tmp_path: Path
) -> None:
    """As an entry point does, and runc: the process is known before, as another program."""
    script = tmp_path / "entrypoint"
    script.write_text(f'#!/bin/bash\necho ready\nread -r line\nexec "{build()}"\n')
    script.chmod(0o755)
    service = proc.start(script)
    assert nothing(read(reader))
    service.do("go", answer="ready")
    (process,) = read(reader).started
    assert process.pid == service.pid


def test_a_process_in_the_middle_of_an_exec(reader: NodeReader, proc: Proc, build: Build) -> None:
    """The kernel shows the new program before the new stack: seen just then, it is read soon."""
    service = proc.start(build())
    stat = proc.path / str(service.pid) / "stat"
    head, _, rest = Path(f"/proc/{service.pid}/stat").read_text().rpartition(") ")
    fields = rest.split(" ")
    fields[25] = "0"  # where its stack begins
    stat.unlink()
    stat.write_text(f"{head}) {' '.join(fields)}")
    reader.send()
    answer = reader._shell.receive(20)
    assert b"new %d " % service.pid in answer
    stat.unlink()
    stat.symlink_to(f"/proc/{service.pid}/stat")
    reader._asked.clear()
    reader._take(answer)
    for _ in range(3):
        if process := next(iter(read(reader).started), None):
            break
    assert process
    assert process.pid == service.pid
    assert process.stack > 0
    assert reader._new == {}


def test_a_position_independent_one_in_the_middle_of_an_exec(
    reader: NodeReader, proc: Proc, build: Build
) -> None:
    """Where it is loaded the kernel says last; nothing else is lost by that."""
    proc.start(build("-buildmode=pie"))
    (known,) = read(reader).started  # so its program is known
    service = proc.start(build("-buildmode=pie"))
    auxv = proc.path / str(service.pid) / "auxv"
    auxv.unlink()
    auxv.write_bytes(bytes(16))
    proc.processes[0].do("even")
    reading = read(reader)
    assert (list(reading.changed), reading.started) == ([known], [])
    auxv.unlink()
    auxv.symlink_to(f"/proc/{service.pid}/auxv")
    (process,) = read(reader).started
    assert process.pid == service.pid
    assert reader.problems == []


def test_a_place_that_is_never_told_is_named(
    reader: NodeReader, proc: Proc, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SETTLE", 0.3)
    service = proc.start(build("-buildmode=pie"))
    auxv = proc.path / str(service.pid) / "auxv"
    auxv.unlink()
    auxv.write_bytes(bytes(16))
    wait(lambda: not read(reader).started and bool(reader.problems))
    (problem,) = reader.problems
    assert problem.endswith("is not covered: the kernel does not say where it was loaded")


def test_what_went_before_it_could_be_looked_at_is_forgotten(
    reader: NodeReader, proc: Proc, build: Build
) -> None:
    service = proc.start(build())
    reader.send()
    answer = reader._shell.receive(20)
    shutil.rmtree(proc.path / str(service.pid))
    reader._asked.clear()
    reader._take(answer)
    assert reader._new == {}
    assert nothing(read(reader))


def test_a_child_between_vfork_and_exec(reader: NodeReader, proc: Proc, build: Build) -> None:
    """It has its parent's memory: that is not counted twice. If it stays, it is one of its own."""
    service = proc.start(build())
    (process,) = read(reader).started
    child = proc.path / "4194000"
    shutil.copytree(proc.path / str(service.pid), child, symlinks=True)
    (child / "stat").unlink()
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(") ")[2].split()
    fields[1] = str(service.pid)
    (child / "stat").write_text(f"4194000 (live) {' '.join(fields)}")
    assert nothing(read(reader))
    time.sleep(2.1)  # the reader counts whole seconds
    (other,) = read(reader).started
    assert other.pid in {4194000, service.pid}
    assert other != process


def test_a_stopped_process_is_read(reader: NodeReader, proc: Proc, build: Build) -> None:
    service = proc.start(build())
    os.kill(service.pid, signal.SIGSTOP)
    reading = read(reader)
    (process,) = reading.started
    assert reading.changed[process].any()


def test_a_zombie_is_gone(reader: NodeReader, proc: Proc, build: Build) -> None:
    service = proc.start(build())
    (process,) = read(reader).started
    service.process.kill()
    wait(lambda: read(reader).gone == [process])
    assert " Z " in Path(f"/proc/{service.pid}/stat").read_text()


def shell_of(reader: NodeReader) -> subprocess.Popen[bytes]:
    process = reader._shell._process
    assert process is not None
    return process


def test_a_shell_that_dies_repairs_itself(
    reader: NodeReader, proc: Proc, build: Build, tmp_path: Path
) -> None:
    busy, idle, ended, program = (proc.start(build()) for _ in range(4))
    by_pid = {process.pid: process for process in read(reader).started}
    assert len(by_pid) == 4
    shell_of(reader).kill()
    shell_of(reader).wait()
    busy.do("even")
    ended.process.kill()
    ended.process.wait()
    program.do("again", answer="ready")
    new = proc.start(build())
    reading = read(reader)
    gone = {process.pid for process in reading.gone}
    assert gone == {ended.pid, program.pid}
    assert {process.pid for process in reading.started} == {new.pid, program.pid}
    assert {process.pid for process in reading.changed} == {busy.pid, new.pid, program.pid}
    assert by_pid[busy.pid] in reading.changed
    idle.do("odd")
    assert list(read(reader).changed) == [by_pid[idle.pid]]
    # While a reading is under way.
    busy.do("odd")
    reader.send()
    shell_of(reader).kill()
    assert set(reader.receive().changed) <= {by_pid[busy.pid]}
    assert nothing(read(reader))
    assert reader._shell.generation >= 2


def test_a_reading_that_breaks_off_loses_nothing(
    reader: NodeReader, proc: Proc, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = proc.start(build())
    (process,) = read(reader).started
    old.do("even")
    new = proc.start(build())

    def interrupted(*args: object, **more: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NodeReader, "_admit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(reader)
    reading = read(reader)
    assert [process.pid for process in reading.started] == [new.pid]
    assert set(reading.changed) == {process, reading.started[0]}
    assert reading.gone == []


def test_a_region_at_the_wrong_place_is_not_believed(
    reader: NodeReader, proc: Proc, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros may be what is read there, without an error."""
    monkeypatch.setattr(live, "_SETTLE", 0.0)
    proc.start(build())
    assert len(read(reader).started) == 1
    monkeypatch.setattr(elf, "bias", lambda binary, auxv: 64)
    proc.start(build())
    read(reader)
    assert nothing(read(reader))
    (problem,) = reader.problems
    assert "differs" in problem


def test_bounds(
    reader: NodeReader, proc: Proc, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_PROCESSES", 2)
    for _ in range(3):
        proc.start(build())
    assert len(read(reader).started) == 2
    (problem,) = reader.problems
    assert "plausible" in problem


def test_all_nodes_at_once(proc: Proc, build: Build) -> None:
    """One that cannot be read does not keep the others' readings back."""
    proc.start(build())
    good = NodeReader(local_node("a"), proc=str(proc.path))
    bad = NodeReader(local_node("b", "false"), proc=str(proc.path))
    try:
        three_nodes = [good, bad, NodeReader(local_node("c", "nothing-here"))]
        ((one, two, three),) = readings(three_nodes)
        assert len(one.started) == 1
        assert one.error is None
        assert two.error is not None
        assert "node b" in two.error.what
        assert "exit code 1" in two.error.cause
        assert three.error is not None
        assert "nothing-here" in str(three.error)
    finally:
        good.close()
        bad.close()


def test_one_after_the_other_for_one_request(reader: NodeReader, proc: Proc, build: Build) -> None:
    """The node waits, and what happens meanwhile is in the second."""
    service = proc.start(build())
    (process,) = read(reader).started
    begin = time.monotonic()
    pair = readings([reader], (0, 0.5))
    (first,) = next(pair)
    assert nothing(first)
    service.do("even")
    proc.start(build())
    (second,) = next(pair)
    assert time.monotonic() - begin > 0.5
    assert process in second.changed
    assert len(second.started) == 1
    assert not reader.busy
    assert nothing(read(reader))


def test_a_reading_just_after_another_looks_for_nothing_new(
    reader: NodeReader, proc: Proc, build: Build
) -> None:
    """Each test ends with one. A new shell's first reading is not such a one."""
    service = proc.start(build())
    (process,) = read(reader).started
    service.do("even")
    proc.start(build())
    ((soon,),) = readings([reader], (0.01,))
    assert (list(soon.changed), soon.started) == ([process], [])
    assert len(read(reader).started) == 1
    reader._shell.close()
    ((anew,),) = readings([reader], (0.001,))
    assert nothing(anew)
    proc.processes[0].end()
    assert read(reader).gone == [process]


def test_a_new_process_waits_for_the_last_of_them(
    reader: NodeReader, proc: Proc, build: Build
) -> None:
    """Its program is asked for, and nothing can be asked while a reading is on the way."""
    read(reader)
    proc.start(build())
    (first,), (second,) = readings([reader], (0, 0.01))
    assert nothing(first)
    assert len(second.started) == 1
    assert reader._shell.generation == 1


def test_shell_that_breaks_between_two_readings(
    reader: NodeReader, proc: Proc, build: Build
) -> None:
    """The second is asked for again, with its pause, of a new shell."""
    service = proc.start(build())
    (process,) = read(reader).started
    pair = readings([reader], (0, 0.2))
    next(pair)
    reader._shell.close()
    service.do("even")
    begin = time.monotonic()
    (second,) = next(pair)
    assert time.monotonic() - begin > 0.2
    assert second.error is None
    assert (list(second.changed), second.started) == ([process], [])


def test_files(reader: NodeReader, tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    directory.mkdir()
    content = os.urandom(100_000) + b"\n\n"
    (directory / "covmeta.1").write_bytes(content)
    (directory / "empty").touch()
    (directory / "-n ä").write_bytes(b"x")
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "sub").mkdir()
    os.mkfifo(directory / "fifo")
    found = reader.files(str(directory))
    assert found == {"covmeta.1": len(content), "empty": 0, "-n ä": 1}
    assert reader.files(str(directory), "covmeta.") == {"covmeta.1": len(content)}
    assert reader.files(str(tmp_path / "missing")) == {}
    assert reader.read_file(f"{directory}/covmeta.1", len(content)) == content
    assert reader.read_file(f"{directory}/empty", 5) == b""
    assert reader.read_file(f"{directory}/-n ä", 5) == b"x"
    with pytest.raises(ClusterError, match="too large"):
        reader.read_file(f"{directory}/covmeta.1", len(content) - 1)
    for name in ("link", "fifo", "sub", "missing"):
        with pytest.raises(ClusterError, match=name):
            reader.read_file(f"{directory}/{name}", 10)
    for path in ("relative", "/a\n/b"):
        with pytest.raises(ClusterError, match="no path"):
            reader.files(path)
    assert reader._shell.generation == 1


@pytest.mark.parametrize("chunk", [7, 4096])
def test_files_in_chunks(
    chunk: int, reader: NodeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_CHUNK", chunk)
    content = os.urandom(4 * 4096 if chunk > 100 else 70)
    (tmp_path / "file").write_bytes(content)
    assert reader.read_file(f"{tmp_path}/file", 1 << 20) == content


def test_bad_requests_are_refused(reader: NodeReader) -> None:
    shell = reader._shell
    for request in (
        "",
        "snap now",
        "watch 1 2 3 4 zz",
        "watch 1 -2 3 4 00",
        "watch x$(touch /tmp/no) 2 3 4 00",
        "read 0 99999999999 /etc/passwd",
        "read 0 10 etc/passwd",
        "identify 99999999",
        "identify 1;id",
        "unwatch",
        "list .",
    ):
        with pytest.raises(ClusterError, match=r"not a request|too long|gone"):
            shell.ask(f"{request}\n".encode(), 10)
    assert shell.ask(b"read 0 4 /etc/passwd\n", 10) == Path("/etc/passwd").read_bytes()[:4]


def test_close_leaves_nothing(reader: NodeReader, proc: Proc, build: Build) -> None:
    proc.start(build())
    read(reader)
    first = shell_of(reader)
    first.kill()  # so what it has there stays, until the next one comes
    first.wait()
    read(reader)
    shell = shell_of(reader)
    read(reader)
    reader.close()
    assert shell.poll() is not None
    # Others may read beside this test, and have directories of their own.
    own = tuple(f"kindcov-{each.pid}." for each in (first, shell))
    assert not [path for path in Path("/dev/shm").iterdir() if path.name.startswith(own)]
    with pytest.raises(ProcessLookupError):
        os.killpg(shell.pid, 0)
    reader.close()
    assert len(read(reader).gone) == 0  # it can be used again


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with a region of 50 kB."""
    source = shutil.copytree(LIVE, tmp_path_factory.mktemp("large") / "source")
    functions = [f"func f{number}() int {{ return {number} }}" for number in range(3001)]
    every = ", ".join(f"f{number}" for number in range(3001))
    use = "func init() { if len(all) > 1<<20 { all[0]() } }"  # else they are not linked
    text = ["package main", *functions, f"var all = []func() int{{{every}}}", use]
    (source / "many.go").write_text("\n".join(text))
    return Go().build(source, source.parent / "many", *PLAIN)


def test_only_what_changed_is_sent(
    proc: Proc, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a region of many blocks; put together it is what another reader gets whole."""
    service = proc.start(large)
    reader = NodeReader(local_node(), proc=str(proc.path))
    sent: list[int] = []
    receive = reader._shell.receive

    def receiving(timeout: float) -> bytes:
        answer = receive(timeout)
        sent.append(len(answer))
        return answer

    try:
        (process,) = read(reader).started
        assert process.size > 5 * 4096
        monkeypatch.setattr(reader._shell, "receive", receiving)
        for word in ("odd", "even", "odd"):
            service.do(word)
            words = read(reader).changed[process]
            assert sent.pop() < process.size / 2
            other = NodeReader(local_node(), proc=str(proc.path))
            (whole,) = read(other).changed.values()
            other.close()
            assert (words == whole).all()
    finally:
        reader.close()


@pytest.mark.parametrize("size", ["large", "small"])
def test_changes_anywhere_in_a_region_are_seen(
    size: str, reader: NodeReader, proc: Proc, large: Path, build: Build
) -> None:
    """At its ends, across blocks, in a block that is shorter; written by this test."""
    service = proc.start(large if size == "large" else build())
    (process,) = read(reader).started
    count = process.size // 4
    assert count > 640 if size == "large" else count < 64
    every = list(range(count))
    chance = random.Random(1)
    some = [chance.sample(every, chance.randint(1, count)) for _ in range(20)]
    across = [place for place in (63, 64) if place < count] or [1]
    cases = [[0], [count - 1], [0, count - 1], across, every, *some]
    with Path(f"/proc/{service.pid}/mem").open("r+b", buffering=0) as memory:
        for number, places in enumerate(cases):
            now = os.pread(memory.fileno(), process.size, process.address)
            expected = np.frombuffer(now, "<u4").copy()
            expected[places] = 1000 + number
            os.pwrite(memory.fileno(), expected.tobytes(), process.address)
            changed = read(reader).changed
            assert changed.keys() == {process}
            assert (changed[process] == expected).all()
    assert nothing(read(reader))


def test_a_change_beyond_the_region_is_not_believed(proc: Proc, large: Path) -> None:
    reader = NodeReader(local_node(), proc=str(proc.path))
    proc.start(large)
    (process,) = read(reader).started
    last = process.size // 256
    for blocks, size in (([last], 256), ([last + 1], 4), ([2**32 - 1], 4), ([0, last + 1], 260)):
        numbers = struct.pack(f"<{len(blocks)}I", *blocks)
        part = b"part %d %d %d\n\n" % (process.pid, len(blocks), size)
        with pytest.raises(ClusterError, match="a change beyond the region"):
            reader._take(part + numbers + bytes(size))
    reader.close()


def scripted(answer: bytes) -> Node:
    script = (
        "import sys, time\n"
        "for _ in sys.stdin: sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]));"
        " sys.stdout.buffer.flush()"
    )
    return Node("node", LocalEngine(prefix=(sys.executable, "-c", script, answer.hex())))


def framed(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize(
    "answer",
    [
        framed(b""),
        framed(b"x"),
        framed(b"\nx"),
        framed(b"gone 1\n"),
        framed(b"data 1 8\n\n1234"),
        framed(b"data 1 3\n\n123"),
        framed(b"part 1 0 8\n\n1234"),
        framed(b"part 1 1 8\n\n00001234"),
        framed(b"part 1 2 4\n\n000011111234"),
        framed(b"part 1 0 4\n\n1234"),
        framed(b"part 1 1 260\n\n" + bytes(264)),
        framed(b"part 1 1 2\n\n000012"),
        framed(b"maybe 1 4\n\n1234"),
        framed(b"data 1 9999999999\n\n123"),
        framed(b"new 1 2 3\n\n"),
        framed(b"new 1 2 3 4 - 1 2 3 4 5\n\n"),
        framed(b"\xff\xfe\n\n"),
        struct.pack("<I", 0x7FFFFFFF) + b"x",
    ],
)
def test_hostile_answers(answer: bytes) -> None:
    reader = NodeReader(scripted(answer))
    try:
        reader.send()
        with pytest.raises(ClusterError, match=r"not understood|plausible"):
            reader.receive()
        assert reader._shell._process is None
    finally:
        reader.close()


def test_answers_of_what_nobody_asked_for() -> None:
    answer = framed(b"gone 1\ndata 2 4\npart 3 1 4\nmaybe 4 4\n\n1234000012341234=")
    reader = NodeReader(scripted(answer))
    try:
        assert nothing(read(reader))
    finally:
        reader.close()


# ELF


def fetch_of(data: bytes) -> elf.Fetch:
    return lambda offset, length: data[offset : offset + length]


def test_elf_of_hosts_programs(build: Build) -> None:
    assert elf.read(fetch_of(Path("/bin/sleep").resolve().read_bytes())) is None
    binary = elf.read(fetch_of(build().read_bytes()))
    assert binary is not None
    assert not binary.pie
    assert elf.bias(binary, b"") == 0
    for data in (b"", b"#!/bin/sh\n" * 20, build().read_bytes()[:5000]):
        with pytest.raises(CoverageDataError):
            elf.read(fetch_of(data))


@given(changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8))
def test_elf_damaged(changes: list[tuple[int, int]], build: Build) -> None:
    """Header and section headers, changed at any place: a result, or our error."""
    good = build().read_bytes()
    (table,) = struct.unpack_from("<Q", good, 40)
    data = bytearray(good)
    for at, value in changes:
        where = at if at < 64 else table + at - 64
        if where < len(data):
            data[where] = value

    def fetch(offset: int, length: int) -> bytes:
        assert 0 <= offset < 1 << 64
        assert 0 <= length <= 1 << 20
        return bytes(data[offset : offset + length])

    try:
        binary = elf.read(fetch)
        if binary is not None:
            elf.find_region(good[: min(binary.module[1], 1 << 16)], binary.noptrbss)
            elf.bias(binary, good[:64])
    except CoverageDataError:
        pass


def test_find_region() -> None:
    def words(*numbers: int) -> bytes:
        return struct.pack(f"<{len(numbers)}Q", *numbers)

    good = (100, 200, 120, 140, 300)
    assert elf.find_region(words(7, 100, 100, *good), 100) == elf.Region(24, 120, 140)
    assert elf.find_region(words(7, *good[:4]), 100) is None
    assert elf.find_region(b"1234" + words(*good), 100) is None
    assert elf.find_region(words(*good), 101) is None
    assert elf.find_region(words(100, 200, 140, 120, 300), 100) is None
    assert elf.find_region(words(100, 200, 120, 120, 300), 100) == elf.Region(0, 120, 120)
    for run in ((100, 200, 121, 141, 300), (100, 1 << 60, 120, 1 << 59, 1 << 61)):
        with pytest.raises(CoverageDataError, match="plausible"):
            elf.find_region(words(*run), 100)
