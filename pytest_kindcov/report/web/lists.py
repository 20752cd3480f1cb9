"""What ran a set of lines, as text: a number at each line, and the list that it leads to."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from pytest_kindcov.report.web.parts import counted, name, page, spans
from pytest_kindcov.report.why import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.report.who import Who

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
        self._items = [f"<li>{name(context.name)}" for context in who.contexts]
        self._tests = [context.test for context in who.contexts]
        # Contexts are sorted by kind: what they have in common is where the next kind begins.
        kinds = [context.kind for context in who.contexts]
        self._edges = [bisect.bisect_left(kinds, kind) for kind in (Kind.SHARED, Kind.OUTSIDE)]
        sizes = list(map(len, self._items))
        sets = (members for file in who.files.values() for members in file.sets)
        self.whole = sum(sum(map(sizes.__getitem__, members)) for members in sets) <= _MOST

    def link(self, index: int, members: Sequence[int]) -> str:
        """What stands at each line of a set: how many tests, leading to the list.

        `~` before it: they may have run it; `·`: it ran outside of tests alone.

        Args:
            index: of the set in its file.
            members: contexts, ascending.

        """
        tests = self._count(members) - (members[-1] >= self._edges[1])
        sign = "~" if self._edges[0] <= members[0] < self._edges[1] else ""
        return f"<a href=#s{index}>{sign}{tests or '·'}</a>"

    def panel(self, index: int, members: Sequence[int], lines: Sequence[int]) -> str:
        """The list of a set.

        Args:
            index: of the set in its file.
            members: contexts, ascending.
            lines: that they ran, ascending.

        """
        numbers = spans([one + 1 for one in members])
        data = f' data-c="{numbers}"' if self.whole else ""
        head = (
            f"<section id=s{index}{data}><a href=#L{lines[0]}>&times;</a>"
            f"<h3>{'Lines' if len(lines) > 1 else 'Line'} {spans(lines)}</h3>"
        )
        if not self.whole:
            return f"{head}Of <a href={NAMES}>all tests</a>:<p>{numbers}</section>\n"
        edges = [0, *(bisect.bisect_left(members, edge) for edge in self._edges), len(members)]
        body = ""
        for kind, title in enumerate(_HEADS):
            if which := members[edges[kind] : edges[kind + 1]]:
                count = f"{counted(self._count(which), 'test')} " if kind < Kind.OUTSIDE else ""
                items = "".join([self._items[one] for one in which])
                body += f"<h4>{count}{title}</h4><ul>{items}</ul>"
        return f"{head}{body}</section>\n"

    def _count(self, members: Sequence[int]) -> int:
        """How many tests; all that is outside of tests is one more."""
        return len({self._tests[one] for one in members})

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
