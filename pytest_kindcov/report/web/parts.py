"""What all pages are made of: escaped text, figures, bars, the frame."""

from __future__ import annotations

import hashlib
from html import escape
from typing import TYPE_CHECKING

from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

# Nothing but the report's own files, wherever it lies; `file:` because some browsers take no file
# on disk for 'self'. Nothing inline, so even text that escaped escaping could not run.
_POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)
MARK = '<meta name="generator" content="pytest-kindcov">'
# Characters of a name that are shown; the whole name stands in the title.
_SHOWN = 160


def name(text: str) -> str:
    """A name that others gave: escaped, in one line, cut if it is long, whole in its title."""
    whole = shown(text)
    if len(whole) <= _SHOWN:
        return f"<bdi>{escape(whole)}</bdi>"
    half = _SHOWN // 2
    return f'<bdi title="{escape(whole)}">{escape(whole[:half])}…{escape(whole[-half:])}</bdi>'


def key(text: str) -> str:
    """A short name for anything, the same in every report: file names and URLs are made of it."""
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()


def number(count: int) -> str:
    """`12,345`."""
    return f"{count:,}"


def counted(count: int, what: str) -> str:
    """`1 test`, `2 tests`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def spans(numbers: Iterable[int]) -> str:
    """`1-3 7` of ascending numbers."""
    found: list[str] = []
    first = last = -2
    for number in numbers:
        if number == last + 1:
            last = number
            continue
        if first >= 0:
            found.append(f"{first}-{last}" if first < last else f"{first}")
        first = last = number
    if first >= 0:
        found.append(f"{first}-{last}" if first < last else f"{first}")
    return " ".join(found)


def bar(covered: int, statements: int) -> str:
    """What was run of it, as a picture of 100 units' width."""
    return stacked((covered,), statements)


def stacked(parts: Iterable[int], whole: int) -> str:
    """Several parts of a whole, as `bar`."""
    done, rects = 0, ""
    for part in parts:
        if part:
            place = f'x="{100 * done / whole:.4g}" ' if done else ""
            rects += f'<rect {place}width="{100 * part / whole:.4g}" height="8"/>'
        else:
            rects += "<rect/>"  # colours go by position
        done += part
    kind = "bar" if whole else "bar empty"
    return (
        f'<svg class="{kind}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f"{rects}</svg>"
    )


def page(title: str, body: str, *, up: str, kind: str, scripts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: not escaped yet.
        body: HTML.
        up: from the page to the directory of style and scripts, "" or ending in `/`.
        kind: a class of its body.
        scripts: names of scripts, in order.

    """
    tags = "".join(f'<script src="{up}{script}" defer></script>\n' for script in scripts)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{MARK}
<title>{escape(shown(title))}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{up}style.css">
{tags}</head>
<body class="{kind}">
{body}</body>
</html>
"""
