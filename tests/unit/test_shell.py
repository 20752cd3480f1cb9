"""The long-lived shell: deadlines, damage, and what is left of it."""

from __future__ import annotations

import os
import sys
import time

import pytest
from localnode import local_node

from pytest_kindcov.cluster.shell import Refusal, Shell
from pytest_kindcov.errors import ClusterError

# Answers each line with itself, or does what it says.
ECHO = """
import os, sys, time
def frame(data, flag=0):
    os.write(1, (len(data) | flag).to_bytes(4, "little"))
    while data:
        data = data[os.write(1, data):]
while line := sys.stdin.readline().strip():
    match line.split():
        case ["sleep"]: time.sleep(60)
        case ["half"]: os.write(1, b"\\x08\\0\\0\\0half"); time.sleep(60)
        case ["refuse"]: frame(b"will not", 1 << 31)
        case ["die"]: sys.exit("the last words")
        case ["huge"]: os.write(1, b"\\xff\\xff\\xff\\x7f")
        case ["noise"]: os.write(2, b"noise " * 100_000); frame(b"quiet")
        case ["close"]: os.close(1); time.sleep(60)
        case ["big", size]: frame(b"x" * int(size))
        case _: frame(line.encode())
"""
COMMAND = [sys.executable, "-c", ECHO]


def shell(**more: int) -> Shell:
    return Shell(local_node("n1"), COMMAND, **more)


def test_one_program_for_many_requests() -> None:
    one = shell()
    try:
        assert [one.ask(b"%d\n" % n, 10) for n in range(100)] == [b"%d" % n for n in range(100)]
        assert one.generation == 1
        assert one.ask(b"big 6300000\n", 10) == b"x" * 6_300_000
        with pytest.raises(Refusal, match="node n1: will not"):
            one.ask(b"refuse\n", 10)
        assert one.ask(b"noise\n", 10) == b"quiet"
        assert one.ask(b"a\n", 10) == b"a"
        assert one.generation == 1
    finally:
        one.close()


def test_several_requests_at_once() -> None:
    one = shell()
    try:
        one.send(b"a\nrefuse\nb\n", 10)
        assert one.receive(10) == b"a"
        with pytest.raises(Refusal, match="will not"):
            one.receive(10)
        assert one.receive(10) == b"b"
        with pytest.raises(ClusterError, match="nothing was asked"):
            one.receive(10)
        one.send(b"c\nd\n", 10)
        assert one.receive(10) == b"c"
        assert one.ask(b"e\n", 10) == b"e"  # by a new program: an answer was not fetched
        assert one.generation == 2
    finally:
        one.close()


def test_two_are_asked_at_once() -> None:
    shells = [shell(), shell()]
    try:
        for number, one in enumerate(shells):
            one.send(b"%d\n" % number, 10)
        assert [one.receive(10) for one in reversed(shells)] == [b"1", b"0"]
    finally:
        for one in shells:
            one.close()


@pytest.mark.parametrize("request_line", ["sleep", "half", "close"])
def test_deadline(request_line: str) -> None:
    one = shell()
    try:
        assert one.ask(b"a\n", 10) == b"a"
        process = one._process
        assert process is not None
        begin = time.monotonic()
        with pytest.raises(ClusterError, match="node n1: its shell") as caught:
            one.ask(f"{request_line}\n".encode(), 0.3)
        assert time.monotonic() - begin < 5
        assert "did not answer within" in caught.value.what or request_line == "close"
        assert caught.value.remedy
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
        assert one.ask(b"b\n", 10) == b"b"
        assert one.generation == 2
    finally:
        one.close()


def test_a_program_that_does_not_read() -> None:
    one = Shell(local_node("n1"), ["sleep", "60"])
    try:
        with pytest.raises(ClusterError, match="did not answer"):
            one.send(b"x" * (4 << 20) + b"\n", 0.3)
        assert one._process is None
    finally:
        one.close()


def test_the_end_says_why() -> None:
    one = shell()
    try:
        with pytest.raises(ClusterError, match="its shell ended") as caught:
            one.ask(b"die\n", 10)
        assert caught.value.cause == "the last words"
        missing = Shell(local_node("n1"), ["no-such-engine"])
        with pytest.raises(ClusterError, match="no-such-engine"):
            missing.ask(b"a\n", 10)
        assert missing.generation == 0
    finally:
        one.close()


def test_a_length_that_cannot_be() -> None:
    one = shell()
    try:
        with pytest.raises(ClusterError, match="plausible"):
            one.ask(b"huge\n", 10)
        small = shell(max_answer=10)
        with pytest.raises(ClusterError, match="plausible"):
            small.ask(b"big 11\n", 10)
        assert small.ask(b"big 10\n", 10) == b"x" * 10
        small.close()
    finally:
        one.close()


def test_an_answer_that_nobody_fetched_is_not_the_next_ones() -> None:
    one = shell()
    try:
        one.send(b"first\n", 10)
        assert one.ask(b"second\n", 10) == b"second"
        with pytest.raises(ClusterError, match="nothing was asked"):
            one.receive(10)
        assert one.ask(b"third\n", 10) == b"third"
    finally:
        one.close()
