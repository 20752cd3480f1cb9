"""The block at the end of a pytest run: figures, verdicts, where the files are, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.report import terminal, types
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.report.model import Report
    from pytest_kindcov.report.types import Request

# A line, and how it is coloured: "" is not.
Line = tuple[str, str]
_COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}


def figures(report: Report, requests: Sequence[Request], verbosity: int, width: int) -> list[Line]:
    """Figures and verdicts.

    Args:
        report: of the run.
        requests: all reports that are wanted; those for the terminal are shown here.
        verbosity: pytest's: below 0 the total and the verdicts; above 0 files, and all of them.
        width: columns of the terminal.

    """
    wanted = [request for request in requests if request.printed]
    flags = [request.flags for request in wanted if request.type.module == "terminal"]
    lines: list[str] = []
    if verbosity < 0 or not flags:
        lines.append(terminal.total_line(report))
    else:
        rows = terminal.ROWS if verbosity == 0 else None
        together = frozenset[str]().union(*flags)
        lines += terminal.tables(report, width, together, rows)
        if verbosity > 0 and "missing" not in together:
            lines += ["", *terminal.tables(report, width, together | {"files"}, rows)]
    for request in wanted:  # such as json:-
        if request.type.module != "terminal":
            lines += types.text(request, report).splitlines()
    around = [*terminal.left_out(report), terminal.trend(report), *terminal.patch(report)]
    if verbosity < 0:
        around = []
    if verbosity > 0:
        around += _phases(report) + _containers(report)
    coloured = [(gate.text, _COLOURS[gate.text.partition(" ")[0]]) for gate in report.gates]
    return [*((line, "") for line in [*lines, *filter(None, around)]), *coloured]


def _phases(report: Report) -> list[str]:
    parts = [f"{shown(phase.name)} {phase.seconds:.1f} s" for phase in report.phases]
    return [f"phases: {', '.join(parts)}"] if parts else []


def _containers(report: Report) -> list[str]:
    return [f"container {one.name} on {one.node}: {one.verdict}" for one in report.containers]


def next_step(report: Report, directory: str) -> str:
    """The command that tells more; "" when there is no more to tell.

    Args:
        report: of the run.
        directory: of the run, as the user would name it.

    """
    place = terminal.worst_place(report)
    if not place:
        return ""
    where = "" if directory == ".kindcov" else f" {directory}"
    return f"what is missing: kindcov report{where} --report term-missing:skip-covered"
