"""Markdown for pull requests and CI summaries: verdict first, then the packages, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.report import terminal
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.report.model import Report
    from pytest_kindcov.report.tally import Tally

# GitHub refuses a step's summary beyond 1 MiB.
_ROWS = 100
_LONGEST = 500  # characters of a name or sentence
# What means something in Markdown or HTML, or would call somebody.
_SPECIAL = {ord(c): f"&#{ord(c)};" for c in "&<>\"'\\`*_[]|~$@#!"}


def content(report: Report, flags: frozenset[str]) -> bytes:
    """The file, or what is appended to one."""
    total = report.total
    head = f"## Kind coverage: {total.percent}"
    lines = [
        head,
        "",
        f"{total.covered} of {total.statements} statements ran"
        + (f" ({text(report.title)})" if report.title else "")
        + ".",
        "",
    ]
    lines += [_gate(gate.text) for gate in report.gates]
    if report.gates:
        lines.append("")
    trend = terminal.trend(report)
    if trend:
        lines += [text(trend), ""]
    lines += _packages(report, "skip-covered" in flags)
    lines += _shares(report)
    lines += _patch(report)
    losses = [f"{one.name}: {one.verdict}" for one in report.containers if one.loses]
    lines += _list("Containers that may have lost coverage", losses)
    lines += _list("May mislead", map(str, report.issues))
    lines += _list("Left out", terminal.left_out(report))
    return ("\n".join(lines).rstrip("\n") + "\n\n").encode()


def text(words: str) -> str:
    """Words in which nothing is markup."""
    words = shown(words)
    if len(words) > _LONGEST:
        words = f"{words[: _LONGEST // 2]}…{words[-_LONGEST // 2 :]}"
    return words.translate(_SPECIAL)


def _gate(line: str) -> str:
    word, _, rest = line.partition(" ")
    return f"- **{word}** {text(rest)}"


def _packages(report: Report, skip_covered: bool) -> list[str]:
    tallies: Sequence[Tally] = [t for t in report.packages if t.missed or not skip_covered]
    more = len(tallies) - _ROWS
    if more > 0:
        tallies = sorted(tallies, key=lambda t: (t.share, -t.missed, t.name))[:_ROWS]
    rows = [
        "| Package | Statements | Missed | Covered |",
        "|:---|---:|---:|---:|",
        *(f"| {text(t.name)} | {t.statements} | {t.missed} | {t.percent} |" for t in tallies),
    ]
    if more > 0:
        rows.append(f"| … {more} more, none covered less | | | |")
    total = report.total
    cells = f"**{total.statements}** | **{total.missed}** | **{total.percent}**"
    return [*rows, f"| **Total** | {cells} |", ""]


def _shares(report: Report) -> list[str]:
    shares = report.shares()
    if not shares:
        return []
    *rows, total = shares
    more = len(rows) - _ROWS
    if more > 0:
        rows = sorted(rows, key=lambda row: (-row.neither, row.name))[:_ROWS]
    lines = [
        "| Statements run by | E2E and unit tests | E2E only | Unit only | Neither |",
        "|:---|---:|---:|---:|---:|",
        *(
            f"| {text(row.name)} | {row.both} | {row.e2e} | {row.unit} | {row.neither} |"
            for row in rows
        ),
    ]
    if more > 0:
        lines.append(f"| … {more} more | | | | |")
    cells = f"**{total.both}** | **{total.e2e}** | **{total.unit}** | **{total.neither}**"
    return [*lines, f"| **Total** | {cells} |", ""]


def _patch(report: Report) -> list[str]:
    lines = terminal.patch(report)
    if not lines:
        return []
    places = [f"- {text(place)}" for place in terminal.patch_places(report)]
    if not places:
        return [text(lines[0]), ""]
    return [text(lines[0]), "", *places[:_ROWS], *(["- …"] if len(places) > _ROWS else []), ""]


def _list(title: str, items: Iterable[str]) -> list[str]:
    """A list that is folded away where the reader can."""
    rows = [f"- {text(item)}" for item in items]
    if not rows:
        return []
    more = [f"- … {len(rows) - _ROWS} more"] if len(rows) > _ROWS else []
    summary = f"<details><summary>{title} ({len(rows)})</summary>"
    return [summary, "", *rows[:_ROWS], *more, "", "</details>", ""]
