"""Commands with deadlines, and waiting."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_kindcov._run import last_lines, pipe, run, shown
from pytest_kindcov._wait import wait_until
from pytest_kindcov.errors import Cancelled, CommandError, DeployError, KindCovError, ToolNotFound


def test_output_and_stdin() -> None:
    assert run(["cat"], timeout=5, stdin=b"in\n").text == "in"


def test_large_input_survives_the_cancel_poll(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    script = "import sys,time; time.sleep(.5); sys.stdout.buffer.write(sys.stdin.buffer.read())"
    assert run([sys.executable, "-c", script], timeout=20, stdin=data).stdout == data
    file = tmp_path / "data"
    file.write_bytes(data)
    with file.open("rb") as stream:
        assert run(["cat"], timeout=5, stdin=stream).stdout == data


def test_failure_names_command_code_and_last_lines() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "echo first >&2; echo last >&2; exit 3"], timeout=5)
    assert "exit code 3" in caught.value.what
    assert caught.value.cause.splitlines()[-1] == "last"
    assert caught.value.output == "first\nlast"


def test_missing_program_and_directory() -> None:
    with pytest.raises(ToolNotFound, match="no-such-program"):
        run(["no-such-program"], timeout=1)
    with pytest.raises(CommandError, match="no directory"):
        run(["true"], timeout=1, cwd=Path("/no/such/place"))


def test_deadline_kills_children_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CommandError, match="did not end within"):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid}; wait"], timeout=0.5)
    # The signal is sent; the other process acts on it when it has its turn.
    wait_until(lambda: not _alive(int(pid.read_text())), what="its end", timeout=10, interval=0.01)


def test_cancel_kills(tmp_path: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        run(["sleep", "60"], timeout=60, cancel=cancel)
    assert time.monotonic() - begin < 5
    with pytest.raises(Cancelled, match="not started"):
        run(["true"], timeout=5, cancel=cancel)


def test_pipe_feeds_all_readers(tmp_path: Path) -> None:
    outputs = [tmp_path / "a", tmp_path / "b"]
    pipe(["seq", "100000"], [["tee", str(output)] for output in outputs], timeout=20)
    assert {output.read_text().splitlines()[-1] for output in outputs} == {"100000"}


def test_pipe_blames_the_reader() -> None:
    with pytest.raises(CommandError) as caught:
        pipe(["cat", "/dev/zero"], [["sh", "-c", "echo no room >&2; exit 1"]], timeout=20)
    assert "no room" in caught.value.cause


def test_pipe_has_a_deadline() -> None:
    with pytest.raises(CommandError, match="did not end within"):
        pipe(["sleep", "60"], [["cat"]], timeout=0.5)


def test_shown_and_last_lines() -> None:
    assert shown(["/usr/bin/kind", "get", "nodes"]) == "kind get nodes"
    assert len(shown(["x" * 500])) == 160
    assert last_lines(b"a\nb\nc\n", 2) == "b\nc"


def test_wait_until() -> None:
    values = iter([None, None, "there"])
    assert wait_until(lambda: next(values), what="it", timeout=5, interval=0) == "there"
    with pytest.raises(DeployError) as caught:
        wait_until(
            lambda: False, what="it", timeout=0, state=lambda: "last seen", error=DeployError
        )
    assert "last seen" in str(caught.value)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        wait_until(lambda: False, what="it", timeout=5, cancel=cancel)


def test_error_text() -> None:
    error = KindCovError("thing", cause="line 1\nline 2", remedy="do it")
    assert str(error) == "thing\n  cause: line 1\n    line 2\n  remedy: do it"
    assert error.headline == "thing: line 1"
    assert KindCovError("thing").headline == "thing"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
