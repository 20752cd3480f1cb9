"""What ran a set of lines, as text: a number at each line, and the list that it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.report.web.parts import counted, name, page, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.report.who import Context, Who

# Bytes that the lists of all pages may take together. Above, they have numbers instead of names:
# 1,000 tests of 1,500 files have 20,000 sets of 58 tests, 100 MB of names.
_MOST = 8_000_000
NAMES = "contexts.html"
_HEADS = ("ran it", "may have run it; others used the instance too", "Outside of tests")


class Lists:
    """Sets of contexts, for pages without scripts; with them `file.js` makes its own of `data-c`.

    Args:
        who: all contexts and sets.

    Attributes:
        whole: whether the lists have the names themselves, or numbers of the page NAMES.

    """

    def __init__(self, who: Who) -> None:
        self._contexts: Sequence[Context] = who.contexts
        self._items = [f"<li>{name(context.name)}" for context in who.contexts]
        sizes = list(map(len, self._items))
        sets = (members for file in who.files.values() for members in file.sets)
        self.whole = sum(sum(map(sizes.__getitem__, members)) for members in sets) <= _MOST

    def link(self, index: int, members: Sequence[int]) -> str:
        """What stands at each line of a set: how many tests, leading to the list.

        `~` before it: they may have run it; `·`: it ran outside of tests alone.
        """
        exact, shared, _ = self._split(members)
        tests = len({self._contexts[one].test for one in exact + shared})
        return f"<a href=#s{index}>{'' if exact else '~' if shared else ''}{tests or '·'}</a>"

    def panel(self, index: int, members: Sequence[int], lines: Sequence[int]) -> str:
        """The list of a set.

        Args:
            index: of the set in its file.
            members: contexts.
            lines: that they ran, ascending.

        """
        head = (
            f'<section id=s{index} class=set data-c="{spans(members)}">'
            f'<a href=#L{lines[0]} title="close">&times;</a>'
            f"<h3>{'Lines' if len(lines) > 1 else 'Line'} {spans(lines)}</h3>"
        )
        if self.whole:
            body = "".join(
                f"<h4>{self._title(kind, which)}</h4>"
                f"<ul>{''.join([self._items[one] for one in which])}</ul>"
                for kind, which in enumerate(self._split(members))
                if which
            )
        else:
            numbers = spans(one + 1 for one in members)
            body = f"<p>Run by these of <a href={NAMES}>the numbered tests</a>: {numbers}</p>"
        return f"{head}{body}</section>\n"

    def names(self) -> str:
        """The page of all names."""
        items = "\n".join(self._items)
        return page(
            "Tests by number",
            '<header><nav><a href="../index.html">All packages</a></nav>\n'
            f"<h1>Tests by number</h1></header>\n<main><ol>\n{items}\n</ol></main>\n",
            up="",
            kind="names",
            scripts=[],
        )

    def _title(self, kind: int, which: Sequence[int]) -> str:
        tests = {self._contexts[one].test for one in which} - {-1}
        return f"{counted(len(tests), 'test')} {_HEADS[kind]}" if tests else _HEADS[kind]

    def _split(self, members: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """By kind."""
        found: tuple[list[int], list[int], list[int]] = ([], [], [])
        for one in members:
            found[self._contexts[one].kind].append(one)
        return found
