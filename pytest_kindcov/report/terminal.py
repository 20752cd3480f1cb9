"""Tables for the terminal: packages or files, and what stands around them."""

from __future__ import annotations

import shutil
import textwrap
import time
from typing import TYPE_CHECKING

from pytest_kindcov.report.tally import Tally
from pytest_kindcov.report.texts import counted, points, ranges, runs, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.report.model import Report, Shares
    from pytest_kindcov.report.tally import Summary

_COLUMNS = f"{'Stmts':>8}{'Miss':>8}{'Cover':>9}"
_SIDES = f"{'Both':>8}{'E2E':>8}{'Unit':>8}{'None':>8}"
# Rows of the block at the end of a run: with what stands around them, one screen.
ROWS = 20
_NARROW = 20  # columns below which missing lines go under their file


def table(summary: Summary, width: int) -> list[str]:
    """Lines of the table: package, statements, missed, cover.

    Args:
        summary: what was covered.
        width: columns of the terminal.

    """
    return _table("Package", summary.packages, summary.total, width)


def content(report: Report, flags: frozenset[str]) -> bytes:
    """The report as `kindcov report` prints it: all packages, or with `missing` all files."""
    width = shutil.get_terminal_size().columns
    lines = [*tables(report, width, flags), *around(report)]
    return "".join(f"{line}\n" for line in lines).encode()


def tables(
    report: Report, width: int, flags: frozenset[str] = frozenset(), rows: int | None = None
) -> list[str]:
    """The table of packages or files, and who ran what if unit tests were given.

    Args:
        report: the report.
        width: columns of the terminal.
        flags: `files` for a row for each file, `missing` for its lines too, `skip-covered`.
        rows: if there are more, so many of the worst, and how many are not shown; None: all.

    """
    files = bool({"files", "missing"} & flags)
    what = "File" if files else "Package"
    missed: dict[str, str] = {}
    if files:
        tallies = [
            Tally(file.shown, file.tally.statements, file.tally.covered) for file in report.files
        ]
    else:
        tallies = report.packages
    if "missing" in flags:
        for file in report.files:
            of_file = report.lines_of(file)
            missed[file.shown] = ranges(of_file.number[of_file.hits == 0].tolist())
    notes = []
    if "skip-covered" in flags:
        left = [tally for tally in tallies if tally.missed]
        if len(left) < len(tallies):
            noun = what.lower()
            notes.append(f"{counted(len(tallies) - len(left), noun)} with full coverage skipped")
        tallies = left
    if rows is not None and len(tallies) > rows:
        tallies = sorted(tallies, key=lambda tally: (tally.share, -tally.missed, tally.name))
        notes.append(f"... {len(tallies) - rows} more {what.lower()}s, none covered less")
        tallies = tallies[:rows]
    lines = _table(what, tallies, report.total, width, missed)
    lines[-2:-2] = notes
    shares = report.shares()
    if shares:
        lines += ["", *_sides(shares, width, rows)]
    return lines


def _table(
    what: str,
    tallies: Sequence[Tally],
    total: Tally,
    width: int,
    missed: dict[str, str] | None = None,
) -> list[str]:
    longest = max(len(tally.name) for tally in [*tallies, total])
    room = max(min(longest, width - len(_COLUMNS)), len(what))
    # A terminal cannot be wide enough for long names and all missing lines: those go below.
    behind = width - room - len(_COLUMNS) - 3
    rule = "-" * (room + len(_COLUMNS))
    lines = [f"{what:<{room}}{_COLUMNS}", rule]
    if missed and behind >= _NARROW:
        lines[0] += "   Missing"
    for tally in tallies:
        row = _row(tally, room)
        text = (missed or {}).get(tally.name, "")
        if text and behind >= max(len(text), _NARROW):
            row += f"   {text}"
            text = ""
        lines += [row, *textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")]
    return [*lines, rule, _row(total, room)]


def _row(tally: Tally, room: int) -> str:
    numbers = f"{tally.statements:>8}{tally.missed:>8}{tally.percent:>9}"
    return f"{cut(tally.name, room)}{numbers}"


def cut(name: str, room: int) -> str:
    """A name in so many columns: its end says more than its beginning."""
    return f"{name if len(name) <= room else '…' + name[len(name) - room + 1 :]:<{room}}"


def _sides(shares: list[Shares], width: int, rows: int | None) -> list[str]:
    """By package, which tests ran its statements."""
    *packages, total = shares
    more = []
    if rows is not None and len(packages) > rows:
        packages.sort(key=lambda row: (-row.neither, row.name))
        more = [f"... {len(packages) - rows} more packages, none with more that nothing ran"]
        packages = packages[:rows]
    longest = max(len(row.name) for row in [*packages, total])
    room = max(min(longest, width - len(_SIDES)), len("Statements run by"))
    rule = "-" * (room + len(_SIDES))

    def line(row: Shares) -> str:
        return f"{cut(row.name, room)}{row.both:>8}{row.e2e:>8}{row.unit:>8}{row.neither:>8}"

    head = f"{'Statements run by':<{room}}{_SIDES}"
    return [head, rule, *map(line, packages), *more, rule, line(total)]


def total_line(report: Report) -> str:
    """The figure in one line, for those who want no table."""
    total = report.total
    return f"TOTAL {total.percent} ({total.covered} of {counted(total.statements, 'statement')})"


def around(report: Report) -> list[str]:
    """What belongs to the figures: what was left out, the run before, the patch, the limits."""
    lines = left_out(report)
    if trend(report):
        lines.append(trend(report))
    lines += patch(report)
    return [*lines, *(gate.text for gate in report.gates)]


def left_out(report: Report) -> list[str]:
    """What is in no figure, by the setting that says so."""
    by: dict[str, list[Tally]] = {}
    for one in report.left_out:
        by.setdefault(one.why, []).append(one.tally)
    return [
        f"left out ({shown(why)}): {counted(len(tallies), 'file')},"
        f" {counted(sum(t.statements for t in tallies), 'statement')},"
        f" {sum(t.covered for t in tallies)} of them run"
        for why, tallies in by.items()
    ]


def trend(report: Report) -> str:
    """The difference to the run before; "" without one."""
    if report.previous is None:
        return ""
    before, total = report.previous.tally, report.total
    text = points(total, before) or "unchanged"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.previous.time))
    rows = (
        f"{total.covered - before.covered:+} run, {total.statements - before.statements:+} in all"
    )
    return f"before ({when}): {before.percent}; now {total.percent}, {text} (statements: {rows})"


def patch(report: Report) -> list[str]:
    """The lines of the patch that did not run."""
    if report.patch is None:
        return []
    tally = report.patch.tally
    since = f"patch since {shown(report.patch.against)}"
    if not tally.statements:
        return [f"{since}: no lines with statements"]
    head = f"{since}: {tally.covered} of {counted(tally.statements, 'line')} run ({tally.percent})"
    return [head, *(f"  not run: {place}" for place in patch_places(report))]


def patch_places(report: Report) -> Iterable[str]:
    """`internal/api/api.go: 10-12, 15` for each file of the patch with lines that did not run."""
    files = report.patch.files if report.patch is not None else ()
    return [f"{file.path}: {ranges(file.missed)}" for file in files if file.missed]


def worst_place(report: Report) -> str:
    """`FILE:LINE` of the largest run of lines that nothing ran, in the file with most of them."""
    files = [file for file in report.files if file.tally.missed and not file.changed]
    if not files:
        return ""
    file = max(files, key=lambda file: (file.tally.missed, file.shown))
    lines = report.lines_of(file)
    found = runs(lines.number[lines.hits == 0].tolist())
    return f"{file.shown}:{max(found, key=lambda run: run[1] - run[0])[0]}" if found else ""
