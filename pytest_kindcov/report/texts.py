"""Words that several reports share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
