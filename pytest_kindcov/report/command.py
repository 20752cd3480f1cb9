"""`kindcov report`: read, merge, report, judge."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import (
    covdata,
    inputs,
    jsonfile,
    place,
    runfile,
    sources,
    terminal,
    types,
    wanted,
)
from pytest_kindcov.report.texts import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.report.inputs import Inputs
    from pytest_kindcov.report.make import Run
    from pytest_kindcov.report.model import Report
    from pytest_kindcov.report.wanted import Wanted


def run(
    paths: Sequence[str], wish: Wanted, *, root: str = ".", directory: str = "", previous: str = ""
) -> int:
    """Read, name the problems on standard error, and make all reports.

    Args:
        paths: directories of coverage files or of runs, and text profiles.
        wish: what is wanted.
        root: of the Go modules, or a directory in it.
        directory: where to leave what a run leaves, of all together; "" for nowhere.
        previous: the JSON report of an earlier run; "": none.

    Returns:
        The exit code: 0, or 1 when there is nothing to report or a limit is not kept.

    Raises:
        KindCovError: a report cannot be made.

    """
    own = sources.repository(root)
    given = inputs.find(paths)
    store = stores.read(given.paths)
    before = jsonfile.previous(Path(previous)) if previous else None
    if previous and before is None:
        raise KindCovError(f"{previous} is no JSON report of kindcov", slug="previous-not-readable")
    with tempfile.TemporaryDirectory(prefix="kindcov-") as scratch:
        given = _with_data(given, own, directory, scratch)
        report = wanted.build(store, own, given.run, wish, before)
        if report is None:
            _say(map(str, store.problems))
            _say(["no coverage data"])
            return 1
        _say(map(str, report.issues))
        if directory:
            _leave(Path(directory), report, given.run)
        wrote = _emit(wish, report, Path(directory or given.home or ""), given)
    _judge(report, wish, wrote)
    return 0 if report.passed else 1


def _leave(directory: Path, report: Report, of_run: Run) -> None:
    """What a run leaves; the data file is there already."""
    data = directory / inputs.COVDATA
    covdata.check(data, report)
    try:
        place.directory(data, lambda inner: covdata.write(inner, report))
        runfile.write(directory, of_run)
    except OSError as error:
        raise KindCovError(
            f"{directory} cannot be written",
            cause=error.strerror or str(error),
            slug="report-not-written",
        ) from error


def _emit(wish: Wanted, report: Report, base: Path, given: Inputs) -> list[str]:
    """Make all reports, and tell where they are."""
    wrote = []
    for request in wish.reports:
        if request == types.Request("covdata") and base == given.home:
            continue  # there already
        where = types.emit(request, report, base)
        if where.startswith(types.NOWHERE):
            _say([where])
        elif where:
            wrote.append(where)
    return wrote


def _judge(report: Report, wish: Wanted, wrote: list[str]) -> None:
    """The verdict, where no table says it, and where the files are."""
    printed = [request for request in wish.reports if request.printed]
    lines = []
    tables = [request for request in printed if request.type.module == "terminal"]
    data = len(tables) < len(printed)
    if not tables:
        lines = [gate.text for gate in report.gates]
    if not wish.reports:
        lines.insert(0, terminal.total_line(report))
    if wrote:
        lines.append(f"wrote {listed(wrote)}")
    for line in lines:
        # Who reads a report from standard output gets nothing else there.
        print(line, file=sys.stderr if data else sys.stdout)


def _with_data(given: Inputs, own: Repository, directory: str, scratch: str) -> Inputs:
    """One data file of all, which has the contexts for the reports."""
    if not given.data:
        return given
    data = given.data[0].absolute()
    if directory or len(given.data) > 1:
        from pytest_kindcov.report import combine  # sqlite3: 5 ms

        data = combine.combine(directory or scratch, given.data, own)
    return dataclasses.replace(given, run=dataclasses.replace(given.run, data=data))


def _say(problems: Iterable[str]) -> None:
    for problem in problems:
        print(f"kindcov: {problem}", file=sys.stderr)
