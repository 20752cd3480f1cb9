"""The page of one source file: each line, whether it ran, and which tests ran it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.report.lines import spans
from pytest_kindcov.report.tally import percent
from pytest_kindcov.report.web.parts import bar, counted, name, number, page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from pytest_kindcov.report.model import Lines, Source
    from pytest_kindcov.report.web.lists import Lists
    from pytest_kindcov.report.who import File

    Bools = npt.NDArray[np.bool_]
    Index = npt.NDArray[np.int64]
    Units = npt.NDArray[np.uint32]

# States of a line. With unit tests one that ran is RAN if both kinds ran it.
NO_CODE, MISSED, PARTLY, RAN, E2E, UNIT = range(6)
_CLASS = ["", " class=m", " class=p", " class=r", ' class="r e"', ' class="r u"']
_WORDS = {
    MISSED: "not run",
    PARTLY: "run in part",
    RAN: "run",
    E2E: "run by E2E tests alone",
    UNIT: "run by unit tests alone",
}
# What may be left of a line that ran without making it one that ran in part: Go counts a brace to
# the block behind it.
_BRACES = "{}();, \t"
# Control codes, and what turns the direction of the text behind it (CVE-2021-42574): shown, not
# obeyed.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_LEGEND = (
    '<p class="legend">The number at a line: how many tests ran it; it leads to them.'
    " <b>~</b> other tests used the instance too. <b>·</b> run outside of tests alone.</p>\n"
)
# Rows of a page without source. A `//line` comment can claim any number of lines.
_ROWS = 20_000


@dataclass(frozen=True)
class Content:
    """What the page of a file is made of.

    Args:
        source: the file.
        lines: its lines.
        units: uint32[N, 5], its blocks.
        sides: for each block whether E2E tests and whether unit tests ran it, bool[N, 2]; None
            unless unit tests were given.
        ran: bool[N].
        functions: first line, name, statements, those that ran.
        who: None if there is no record, or nothing of it was run by a test.
        before: the page and the name of the file before it in the list of all; None for the first.
        after: the same of the one behind it.

    """

    source: Source
    lines: Lines
    units: Units
    ran: Bools
    sides: Bools | None
    functions: Sequence[tuple[int, str, int, int]]
    who: File | None
    before: tuple[str, str] | None = None
    after: tuple[str, str] | None = None


def render(content: Content, lists: Lists | None) -> str:
    """The page of a file.

    Args:
        content: what it is made of.
        lists: None without a record of who ran what.

    """
    source, lines = content.source, content.lines
    text, why = _read(source)
    shown = [] if text is None else _lines(text)
    highest = int(lines.number.max(initial=0))
    if text is not None and highest > len(shown):
        text, why = None, f"it has {len(shown)} lines, what was built had {highest}"
    state = np.zeros(max(highest, len(shown)) + 1, np.int64)
    state[lines.number] = np.where(lines.hits == 0, MISSED, np.where(lines.partial, PARTLY, RAN))
    if text is None:
        numbers = lines.number[:_ROWS].tolist()
        texts = [""] * len(numbers)
    else:
        numbers = list(range(1, len(shown) + 1))
        texts = escape("\n".join(shown), quote=False).split("\n")
        for line, marked in _marked(text, content.units[~content.ran], state):
            texts[line - 1] = marked
            state[line] = PARTLY
    if content.sides is not None:
        _by_side(state, content.units, content.sides)
    links, panels = _who(content.who, lists, len(state))
    # The number of a line is that of its list item. Half a million lines have nothing to spare.
    values = [""] * len(numbers) if text is not None else [f" value={n}" for n in numbers]
    rows = [
        f"<li\nid=L{n}{value}{_CLASS[s]}>{link}{text}"
        for n, s, value, link, text in zip(
            numbers,
            state[numbers].tolist(),
            values,
            [links[n] for n in numbers],
            texts,
            strict=True,
        )
    ]
    note = f'<p class="note bad">The source is not shown: {escape(why)}.</p>\n' if why else ""
    if len(rows) < len(lines):
        note += f'<p class="note">Only the first {number(_ROWS)} lines are listed.</p>\n'
    return page(
        source.shown,
        _head(content, np.bincount(state[lines.number], minlength=len(_CLASS)).tolist())
        + note
        + _outline(content.functions)
        + (_LEGEND if panels else "")
        + f'<main><ol class="code">{"".join(rows)}\n</ol></main>\n{panels}',
        up="",
        kind="source",
        scripts=["run.js", "file.js"] if lists else ["file.js"],
    )


def _read(source: Source) -> tuple[bytes | None, str]:
    """Its text as it was built; or why it cannot be shown."""
    if source.file is None:
        return None, "it is not in the repository, nor in the cache of Go's modules"
    if source.changed:
        return None, "it was changed since the program was built"
    try:
        return source.file.read_bytes(), ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"


def _lines(text: bytes) -> list[str]:
    """Its lines, as pages show them."""
    whole = text.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n")
    return plain(whole).split("\n")


def _marked(text: bytes, missed: Units, state: Index) -> Iterator[tuple[int, str]]:
    """Lines that ran, with marks around what of them did not: number and HTML.

    Args:
        text: of the file.
        missed: blocks that did not run.
        state: of each line.

    """
    raw = text.split(b"\n")
    places: dict[int, list[tuple[int, int]]] = {}
    for first, begin, last, end, statements in missed.tolist():
        # A block's other lines are its own alone.
        for line in {first, last} if statements else ():
            if line < len(state) and state[line] in (RAN, PARTLY):
                start = begin - 1 if line == first else 0
                stop = end - 1 if line == last else len(raw[line - 1])
                if raw[line - 1][start:stop].decode("utf-8", "replace").strip(_BRACES):
                    places.setdefault(line, []).append((start, stop))
    for line, marks in places.items():
        bytes_, done, at = raw[line - 1].removesuffix(b"\r"), "", 0
        for start, stop in sorted(marks):
            if start >= at:  # else one lies in another: not what a Go compiler wrote
                done += _piece(bytes_[at:start]) + f"<u>{_piece(bytes_[start:stop])}</u>"
                at = stop
        yield line, done + _piece(bytes_[at:])


def plain(text: str) -> str:
    r"""Text for a page, not escaped yet: no control codes but newline and tab, no lone surrogates.

    What is taken out is spelled out: `\x1b`, `\u202e`, `\udcff`.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return _ODD.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _piece(text: bytes) -> str:
    return escape(plain(text.decode("utf-8", "replace")), quote=False)


def _by_side(state: Index, units: Units, sides: Bools) -> None:
    """Tell the lines apart that only E2E tests or only unit tests ran."""
    first, length = spans(units)
    ran = np.zeros((len(state) + 1, 2), np.int64)
    length = np.minimum(length, len(state) - np.minimum(first, len(state)))
    for side in (0, 1):
        which = sides[:, side] & (length > 0)
        np.add.at(ran[:, side], first[which], 1)
        np.add.at(ran[:, side], (first + length)[which], -1)
    e2e, unit = np.cumsum(ran, axis=0)[:-1].T > 0
    state[(state == RAN) & e2e & ~unit] = E2E
    state[(state == RAN) & unit & ~e2e] = UNIT


def _who(who: File | None, lists: Lists | None, size: int) -> tuple[list[str], str]:
    """What stands at each line, str[size], and all lists."""
    if lists is None or who is None:
        return [""] * size, ""
    set_of = np.full(size, -1, np.int64)
    set_of[: len(who.set_of)] = who.set_of[:size]
    links = [lists.link(index, members) for index, members in enumerate(who.sets)]
    links.append("")  # -1: nothing ran it
    order = np.argsort(set_of, kind="stable")
    edges = np.searchsorted(set_of[order], np.arange(len(who.sets) + 1)).tolist()
    order = order.tolist()
    panels = [
        lists.panel(index, members, order[edges[index] : edges[index + 1]])
        for index, members in enumerate(who.sets)
        if edges[index] < edges[index + 1]
    ]
    return [links[one] for one in set_of.tolist()], f'<div class="sets">\n{"".join(panels)}</div>\n'


def _head(content: Content, counts: Sequence[int]) -> str:
    """Figures of a file; `counts` are lines, by state."""
    source, tally = content.source, content.source.tally
    path, slash, file = source.shown.rpartition("/")
    order = (RAN, E2E, UNIT, PARTLY, MISSED)
    words = _WORDS if content.sides is None else {**_WORDS, RAN: "run by both"}
    lines = " ".join(
        f"<span{_CLASS[state]}>{number(counts[state])} {words[state]}</span>"
        for state in order
        if counts[state] or state in (RAN, MISSED)
    )
    badge = ' <small class="badge">generated</small>' if source.generated else ""
    ways = "".join(
        f' <a rel="{rel}" href="{way[0]}">{arrow} {name(way[1].rpartition("/")[2])}</a>'
        for rel, arrow, way in (("prev", "←", content.before), ("next", "→", content.after))
        if way
    )
    return f"""\
<header>
<nav><a rel="up" href="../index.html">All packages</a>{ways}</nav>
<h1>{name(path + slash) if path else ""}<b>{name(file)}</b>{badge}</h1>
<p class="figures"><strong>{tally.percent}</strong> {bar(tally.covered, tally.statements)}
<span>{number(tally.covered)} of {counted(tally.statements, "statement")} run</span></p>
<p class="lines"><small>line-based:</small> {lines}</p>
</header>
"""


def _outline(functions: Sequence[tuple[int, str, int, int]]) -> str:
    """A table of functions."""
    if not functions:
        return ""
    rows = "".join(
        f"<tr><td><a href=#L{line}>{name(what)}</a><td>{covered}/{statements}"
        f"<td>{percent(covered, statements)}<td>{bar(covered, statements)}\n"
        for line, what, statements, covered in functions
    )
    return (
        f'<details class="outline"><summary>{counted(len(functions), "function")}</summary>\n'
        f"<table><tr><th>Function<th>Statements<th>Run<th>\n{rows}</table></details>\n"
    )
