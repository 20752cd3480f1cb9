"""docs/performance.md: its words are in bench/performance.md, its tables are the results'."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pairs import ENOUGH, Curve, Results, table
from plot import plot

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
WORDS = Path(__file__).parent / "performance.md"


def write(results: Results) -> None:
    """Write the page and its pictures."""
    for name, content in files(results).items():
        (DOCS / name).write_text(content)


def files(results: Results) -> dict[str, str]:
    """The page and its pictures, by the name of the file in docs/."""
    found = {f"growth-{of}.svg": plot(curves) for of, curves in _curves(results).items()}
    text = WORDS.read_text()
    text = re.sub(r"<!-- table (\w+) -->\n", lambda match: _table(results, match[1]), text)
    text = text.replace("<!-- machines -->\n", "".join(_machines(results)))
    pictures = "".join(f"![Growth with {name[7:-4]}]({name})\n" for name in sorted(found))
    return {PAGE.name: text.replace("<!-- pictures -->\n", pictures), **found}


def _curves(results: Results) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for name in results.figures:
        for each in results.of(name):
            if isinstance(each, Curve):
                found.setdefault(each.of, []).append(each)
    return found


def _table(results: Results, name: str) -> str:
    if name not in results.figures:
        return f"Not measured yet: `script/bench --docs {name}`.\n"
    pairs = results.figures[name]["pairs"]
    trial = "" if pairs >= ENOUGH else f"A trial of {pairs}, on a busy machine: no result.\n\n"
    return trial + table(results.of(name))


def _machines(results: Results) -> Iterator[str]:
    """On what, by figure; those measured on the same are named together."""
    by_machine: dict[str, list[str]] = {}
    for name, value in results.figures.items():
        machine = ", ".join(f"{key} {word}" for key, word in value["machine"].items())
        by_machine.setdefault(f"{value['pairs']} pairs; {machine}", []).append(name)
    for machine, names in by_machine.items():
        yield f"- {', '.join(names)}: {machine}\n"
