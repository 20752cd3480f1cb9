"""`kindcov why`: which tests ran a line, and what no other test runs.

A question with `::` in it is a test, by its node id or a part of it. Otherwise FILE:LINE (or
FILE:LINE:COLUMN, as compilers say it) is a line, and everything else a part of a node id.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import datafile
from pytest_kindcov.report.texts import counted, ranges, shown

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

# Nine digits: more are no line number.
_LINE = re.compile(r"(.+?):(\d{1,9})(?::\d{1,9})?", re.ASCII | re.DOTALL)
_SHOWN = 10  # candidates


class Unknown(KindCovError):
    """The data know no such file, line or test."""

    slug = "question-unknown"


class Kind(IntEnum):
    """How sure it is that a test did what its context did."""

    EXACT = 0
    SHARED = 1
    OUTSIDE = 2


def origin(context: str) -> tuple[Kind, str]:
    """What a context says, and the node id of its test ("" outside of tests).

    `NODEID`; `NODEID|step` for a step in the test; either with ` [shared]` if other tests ran
    against the same instance meanwhile. Outside of tests: `background`, `FIXTURE [setup]`,
    `FIXTURE [teardown]`, `[startup]`, `[shutdown]`. A node id may have a `|` among its parameters:
    `test[a|b]` is no step. One with `]|` there is cut at that place.
    """
    if context in ("background", "[startup]", "[shutdown]") or context.endswith(
        (" [setup]", " [teardown]")
    ):
        return Kind.OUTSIDE, ""
    test = context.removesuffix(" [shared]")
    kind = Kind.EXACT if test == context else Kind.SHARED
    name = max(test.find("::"), 0)  # a directory may have any name
    bracket, bar = test.find("[", name), test.find("|", name)
    if 0 <= bracket < bar:
        bar = test.find("]|", bracket) + 1 or -1
    return kind, test[:bar] if bar > 0 else test


def run(question: str, data: Sequence[str]) -> int:
    """Answer a question from the data of some runs, the newest first, on standard output.

    Args:
        question: a line or a test.
        data: directories of runs, or their data files.

    Returns:
        The exit code: 0, also for a line that no test ran.

    Raises:
        KindCovError: data cannot be read, or none of them know the file, the line or the test.

    """
    question = datafile.clean(question)
    line = None if "::" in question else _LINE.fullmatch(question)
    runs: list[tuple[float, Path, list[str] | Unknown]] = []
    for path in map(datafile.find, data):
        with datafile.opened(path) as connection:
            (when,) = connection.execute("SELECT time FROM kindcov_run").fetchone()
            try:
                answer: list[str] | Unknown = (
                    _line(connection, line[1], int(line[2]), when)
                    if line
                    else _test(connection, question)
                )
            except Unknown as error:
                answer = error
        runs.append((when, path, answer))
    runs.sort(key=lambda run: -run[0])
    lines = []
    for when, path, answer in runs:
        if len(runs) > 1:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
            lines.append(f"{shown(str(path))}, run of {moment}:")
        lines += str(answer).split("\n") if isinstance(answer, Unknown) else answer
    if all(isinstance(answer, Unknown) for _, _, answer in runs):
        raise next(answer for _, _, answer in runs if isinstance(answer, Unknown))
    sys.stdout.flush()
    # Names have any letters, whatever the terminal's encoding.
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
    sys.stdout.buffer.flush()
    return 0


def _line(connection: sqlite3.Connection, name: str, line: int, when: float) -> list[str]:
    """Who ran a line."""
    file, path, executable = _file(connection, name)
    where = f"{_short(path)}:{line}"
    if not executable >> line & 1:
        known = datafile.numbers(executable)
        near = [max((n for n in known if n < line), default=0)]
        near += [min((n for n in known if n > line), default=0)]
        raise Unknown(
            f"{where} has no statement",
            cause="the nearest lines with one: " + " and ".join(str(n) for n in near if n),
        )
    rows = connection.execute(
        "SELECT context, numbits FROM line_bits JOIN context ON context.id = context_id"
        " WHERE file_id = ?",
        (file,),
    )
    ran: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    tests: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    for context, numbits in rows:
        if datafile.bits(numbits) >> line & 1:
            kind, test = origin(context)
            ran[kind].append(context)
            tests[kind].add(test)
    exact, shared = len(tests[Kind.EXACT]), len(tests[Kind.SHARED])
    heads = {
        Kind.EXACT: f"{counted(exact, 'test')} ran it:",
        Kind.SHARED: f"{counted(shared, 'test')} may have run it, others used the instance too:",
        Kind.OUTSIDE: "outside of tests:",
    }
    lines = [where]
    if path_changed(path, when):
        lines.append("note: the file was changed after the run; its lines may have moved")
    if not any(ran.values()):
        lines.append("not covered: no test ran it")
    elif not exact + shared:
        lines.append("no test ran it")
    for kind, contexts in ran.items():
        if contexts:
            lines += [heads[kind], *(f"  {shown(context)}" for context in sorted(contexts))]
    return lines


def path_changed(path: str, when: float) -> bool:
    """Whether a file was changed after a time; False if it is not here."""
    try:
        return os.stat(path).st_mtime > when  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _file(connection: sqlite3.Connection, name: str) -> tuple[int, str, int]:
    """Number, path and lines with statements of the file that is meant.

    It is meant by its path, by Go's name, or by an end of one of them.

    Raises:
        Unknown: there is none, or more than one.

    """
    rows = connection.execute(
        "SELECT id, path, name, numbits FROM kindcov_file JOIN file ON file.id = file_id"
    ).fetchall()
    paths = {os.path.abspath(name), os.path.realpath(name), name}  # noqa: PTH100
    tail = "/" + os.path.normpath(name)
    ways: list[Callable[[str, str], bool]] = [
        lambda path, go: path in paths or go == name,
        lambda path, go: path.endswith(tail) or go.endswith(tail),
    ]
    for way in ways:
        found = {row[1]: row for row in rows if way(row[1], row[2])}
        if len(found) == 1:
            ((number, path, _, numbits),) = found.values()
            return number, path, datafile.bits(numbits)
        if found:
            raise Unknown(
                f"{shown(name)} could be {len(found)} files",
                cause=_list(map(_short, found)),
                remedy="give more of its path",
            )
    base = "/" + tail.rpartition("/")[2]
    raise Unknown(
        f"the data have no Go file {shown(name)}",
        cause=_list(_short(path) for _, path, _, _ in rows if path.endswith(base)),
        remedy="name it by its path or by Go's name (a file without statements is in no data);"
        " a test is named by a node id, with ::",
    )


def _test(connection: sqlite3.Connection, name: str) -> list[str]:
    """What nothing but one test ran."""
    contexts = connection.execute("SELECT id, context FROM context").fetchall()
    origins = {number: origin(context) for number, context in contexts}
    test = _one(name, {test for _, test in origins.values() if test})
    own = {number: kind for number, (kind, whose) in origins.items() if whose == test}
    mine: dict[int, int] = {}
    others: dict[int, int] = {}
    # All rows, once: a set of lines is a number, so a million of them take two seconds.
    for file, context, numbits in connection.execute(
        "SELECT file_id, context_id, numbits FROM line_bits"
    ):
        side = mine if context in own else others
        side[file] = side.get(file, 0) | datafile.bits(numbits)
    only = {file: ran & ~others.get(file, 0) for file, ran in mine.items()}
    paths = dict(connection.execute("SELECT id, path FROM file").fetchall())
    found = {_short(paths[file]): datafile.numbers(lines) for file, lines in only.items() if lines}
    total = sum(lines.bit_count() for lines in mine.values())
    alone = sum(map(len, found.values()))
    answer = [
        shown(test),
        f"ran {counted(total, 'line')} in {counted(len(mine), 'file')};"
        f" {alone} of them nothing else ran" + (":" if alone else ""),
    ]
    if Kind.SHARED in own.values():
        answer.insert(1, "note: other tests used the instance meanwhile, so not all may be its own")
    width = len(str(max(map(len, found.values()), default=0))) + 2
    columns = shutil.get_terminal_size().columns
    for path, numbers in sorted(found.items()):
        answer += textwrap.wrap(
            ranges(numbers),
            columns,
            initial_indent=f"{len(numbers):>{width}}  {path}: ",
            subsequent_indent=" " * (width + 4),
            break_on_hyphens=False,
            break_long_words=False,
        )
    return answer


def _one(name: str, tests: set[str]) -> str:
    """The test that is meant, by its node id (its context's name is fine) or a part of it."""
    for exact in (name, origin(name)[1]):
        if exact in tests:
            return exact
    found = sorted(test for test in tests if name in test or name in shown(test))
    if len(found) == 1:
        return found[0]
    if found:
        raise Unknown(
            f"{shown(name)} could be {len(found)} tests",
            cause=_list(found),
            remedy="give more of the node id",
        )
    raise Unknown(
        f"no test {shown(name)} in the data",
        cause=f"they have {counted(len(tests), 'test')}",
        remedy="a test is named by a part of its node id, a line by FILE:LINE",
    )


def _short(path: str) -> str:
    """A path from here, if it is below; printable."""
    here = os.getcwd() + "/"  # noqa: PTH109
    return shown(path.removeprefix(here))


def _list(names: Iterable[str]) -> str:
    """Some of them, one a line."""
    lines = sorted(map(shown, names))
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)
