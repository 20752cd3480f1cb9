"""Words that several reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.report.tally import Tally


def shown(text: str) -> str:
    r"""Text that can be printed and stored anywhere: control codes are spelled out.

    So are line breaks (`\n`), and a byte that is not UTF-8 (`\udcff`).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, what: str) -> str:
    """`1 test`, `2 tests`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def points(now: Tally, before: Tally) -> str:
    """`+5.9 points`; "" without a change. One is not shown as none, however small."""
    change = 100 * (now.share - before.share)
    if not change:
        return ""
    digits = next((n for n in range(1, 9) if abs(change) * 10**n >= 1), 9)
    return f"{float(change):+.{digits}f} points"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each run in ascending numbers: `[[1, 3], [7, 7]]` of 1, 2, 3, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` of ascending numbers."""
    pairs = runs(numbers)
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in pairs)
