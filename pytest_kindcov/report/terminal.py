"""The summary block of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Summary

_COLUMNS = f"{'Stmts':>8}{'Miss':>8}{'Cover':>9}"


def table(summary: Summary, width: int) -> list[str]:
    """Lines of the table: package, statements, missed, cover.

    Args:
        summary: what was covered.
        width: columns of the terminal.

    """
    total = summary.total
    longest = max(len(tally.name) for tally in [*summary.packages, total])
    room = max(min(longest, width - len(_COLUMNS)), len("Package"))
    rule = "-" * (room + len(_COLUMNS))

    def row(name: str, statements: int, missed: int, percent: str) -> str:
        shown = name if len(name) <= room else "…" + name[-(room - 1) :]
        return f"{shown:<{room}}{statements:>8}{missed:>8}{percent:>9}"

    return [
        f"{'Package':<{room}}{_COLUMNS}",
        rule,
        *(row(t.name, t.statements, t.missed, t.percent) for t in summary.packages),
        rule,
        row(total.name, total.statements, total.missed, total.percent),
    ]
