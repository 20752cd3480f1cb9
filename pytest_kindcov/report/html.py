"""The HTML report: a first page, a page for each source file, and which tests ran each line.

coverage.py's own reporter, with contexts, takes 114 s of processor and 155 MB for 100,000 units of
1,500 files and 1,000 tests, for it names every test at every line; and its headline is of lines,
not of statements. Here a file has each set of tests once. See bench/contexts.py for time and size.

Its directory has index.html and `kindcov/`; what else is there is not of the report.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import who as whos
from pytest_kindcov.report.texts import shown
from pytest_kindcov.report.web import index, source
from pytest_kindcov.report.web.lists import NAMES, Lists
from pytest_kindcov.report.web.parts import MARK, key

if TYPE_CHECKING:
    import os

    from pytest_kindcov.report.model import Report
    from pytest_kindcov.report.who import Who

OWN = index.PAGES
_WEB = Path(__file__).with_name("web")
_ASSETS = ("style.css", "index.js", "file.js")
_HEAD = 2_000  # bytes of a page within which its mark stands


def write(directory: str | os.PathLike[str], report: Report) -> Path:
    """Write the report.

    Args:
        directory: gets `index.html` and OWN; must be there.
        report: of the run; who ran what is read from `report.data`.

    Returns:
        The first page.

    Raises:
        CoverageDataError: `report.data` cannot be read.
        OSError: it cannot be written.

    """
    who = None if report.data is None else whos.read(report.data)
    pages = Path(directory, OWN)
    pages.mkdir()
    _pages(pages, report, who)
    first = Path(directory, "index.html")
    first.write_text(index.render(report, who), "utf-8")  # no first page without its others
    return first


def check(target: Path, _report: Report | None = None) -> None:
    """That nothing is in the way but another report.

    Raises:
        KindCovError: there is.

    """
    page, pages = target / "index.html", target / OWN
    ours = {
        page: not page.exists() or MARK.encode() in page.read_bytes()[:_HEAD],
        pages: not pages.exists() or all((pages / name).is_file() for name in _ASSETS),
    }
    for path, mine in ours.items():
        if not mine:
            raise KindCovError(
                f"the html report is not written: {path} is in its place",
                cause="it is not of a report of pytest-kindcov",
                remedy="name another directory, or remove it",
                slug="report-in-the-way",
            )


def _pages(directory: Path, report: Report, who: Who | None) -> None:
    """All but the first page."""
    for name in _ASSETS:
        shutil.copyfile(_WEB / name, directory / name)
    lists = None
    if who is not None:
        lists = Lists(who)
        if not lists.whole:
            (directory / NAMES).write_text(lists.names(), "utf-8")
        _scripts(directory, report, who)
    profile = report.profile
    ran = profile.counts != 0
    sides = (
        None if report.sides is None else np.stack([report.sides.e2e, report.sides.unit], axis=1)
    )
    functions: dict[tuple[str, str], list[tuple[int, str, int, int]]] = {}
    for known, line, (name, _), statements, covered in profile.by_function():
        if name and statements:
            rows = functions.setdefault((known.package, known.path), [])
            rows.append((line, name, statements, covered))
    order = index.order(report)
    ways = [(index.href(file), file.shown) for file in order]
    place = {file.name: at for at, file in enumerate(order)}
    for number, file in enumerate(report.files):
        known = profile.files[number]
        at = place[file.name]
        content = source.Content(
            source=file,
            lines=report.lines_of(file),
            units=profile.units[file.blocks],
            ran=ran[file.blocks],
            sides=None if sides is None else sides[file.blocks],
            functions=functions.get((known.package, known.path), []),
            who=None if who is None else who.files.get(who.names.get(file.name, "")),
            before=ways[at - 1] if at else None,
            after=ways[at + 1] if at + 1 < len(ways) else None,
        )
        (directory / index.href(file)).write_text(source.render(content, lists), "utf-8")


def _scripts(directory: Path, report: Report, who: Who) -> None:
    """What scripts know of tests: names, and which files each ran."""
    contexts = [(shown(context.name), context.kind, context.test) for context in who.contexts]
    tests = [(key(test.name), shown(test.name)) for test in who.tests]
    _assign(directory / "run.js", "kindcov", {"contexts": contexts, "tests": tests})
    place = {who.names.get(file.name): number for number, file in enumerate(report.files)}
    ran = [
        [
            number
            for path, lines in test.files.items()
            if path in place
            for number in (place[path], lines)
        ]
        for test in who.tests
    ]
    pages = [index.href(file) for file in report.files]
    _assign(directory / "ran.js", "kindcovRan", {"files": pages, "ran": ran})


def _assign(path: Path, name: str, value: object) -> None:
    # ASCII alone, and nothing that could end a script.
    text = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    path.write_text(f"window.{name} = {text};\n", "ascii")
