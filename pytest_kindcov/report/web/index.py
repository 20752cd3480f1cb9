"""The first page: figures, packages and their files, tests, containers, timings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pytest_kindcov.report.texts import points
from pytest_kindcov.report.web.parts import bar, counted, key, name, number, page, spans, stacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindcov.report.model import Report, Source
    from pytest_kindcov.report.tally import Tally
    from pytest_kindcov.report.who import Who

PAGES = "kindcov"


def render(report: Report, who: Who | None) -> str:
    """The page.

    Args:
        report: of the run.
        who: None without a record of who ran what.

    """
    sections = [
        ("packages", "Packages", _packages(report)),
        ("patch", "Changed lines", _patch(report)),
        ("tests", "Tests", _tests(who)),
        ("containers", "Containers", _containers(report)),
        ("programs", "Programs", _programs(report)),
        ("phases", "Timings", _phases(report)),
        ("left-out", "Left out", _left_out(report)),
    ]
    there = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{anchor}">{title}</a>\n' for anchor, title, _ in there)
    body = "".join(
        f'<section id="{anchor}">\n<h2>{title}</h2>\n{content}</section>\n'
        for anchor, title, content in there
    )
    return page(
        f"{report.total.percent} · Go coverage",
        f'{_head(report)}{_verdicts(report)}<nav class="sections">\n{links}</nav>\n'
        f"<main>\n{body}</main>\n",
        up=f"{PAGES}/",
        kind="index",
        scripts=["run.js", "ran.js", "index.js"] if who else ["index.js"],
    )


def href(source: Source) -> str:
    """The file name of a source's page: never made of what others named, other than by a hash."""
    return f"{key(source.name)}.html"


def order(report: Report) -> list[Source]:
    """All files as the page lists them: by package, then by name."""
    return sorted(report.files, key=lambda file: (file.package, file.shown))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds)).strip()


def _head(report: Report) -> str:
    total, trend = report.total, ""
    if report.previous is not None:
        change = points(total, report.previous.tally)
        word = f"{change} since" if change else "as in"
        trend = f'<span class="trend">{word} the run of {_moment(report.previous.time)}</span>'
    title = name(report.title) if report.title else "Coverage of Go programs"
    return f"""\
<header>
<h1>{title}</h1>
<p class="figures"><strong>{total.percent}</strong> {bar(total.covered, total.statements)}
<span>{number(total.covered)} of {counted(total.statements, "statement")} run</span> {trend}</p>
<p><small>Statements as Go counts them: the total of <code>go tool cover -func</code>.
Run of {_moment(report.time)}.</small></p>
</header>
"""


def _verdicts(report: Report) -> str:
    """Limits, and what may mislead."""
    found = []
    for gate in report.gates:
        mark = "good" if gate.passed else "" if gate.kind == "warn-under" else "bad"
        found.append(f'<p class="note {mark}">{name(gate.text)}</p>\n')
    for container in report.containers:
        if container.loses:
            mark = "" if container.allowed else "bad"
            text = container.text or container.verdict
            text = text if container.name in text else f"{container.name}: {text}"
            text += " (allowed)" if container.allowed else ""
            found.append(f'<p class="note {mark}">{name(text)}</p>\n')
    found += [f'<p class="note">{name(str(issue))}</p>\n' for issue in report.issues]
    return f'<div class="verdicts">\n{"".join(found)}</div>\n' if found else ""


def _table(kind: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    cells = "".join(f"<th>{head}" for head in heads)
    return (
        f'<div class="wide"><table class="{kind}">\n<thead><tr>{cells}</thead>\n'
        f"{''.join(rows)}</table></div>\n"
    )


def _figures(tally: Tally, shares: Sequence[int] | None) -> str:
    cells = (
        f"<td>{number(tally.statements)}<td>{number(tally.missed)}<td>{tally.percent}"
        f'<td class="picture">{bar(tally.covered, tally.statements) if shares is None else ""}'
    )
    if shares is None:
        return cells
    both, e2e, unit, _ = shares
    cells += stacked((both, e2e, unit), sum(shares))
    return cells + "".join(f"<td>{number(share)}" for share in shares)


def _packages(report: Report) -> str:
    """Every package, its files behind it."""
    shares: dict[str, Sequence[int]] = {}
    by_file: list[Sequence[int]] = []
    heads = ["Package", "Statements", "Not run", "Run", ""]
    if report.sides is not None:
        heads += ["By both", "E2E alone", "Unit alone", "By neither"]
        shares = {s.name: (s.both, s.e2e, s.unit, s.neither) for s in report.shares()}
        by_file = _shares(report)
    files: dict[str, list[tuple[Source, Sequence[int] | None]]] = {}
    number_of = {file.name: index for index, file in enumerate(report.files)}
    for file in order(report):
        own = by_file[number_of[file.name]] if by_file else None
        files.setdefault(file.package, []).append((file, own))

    rows = []
    for tally in report.packages:
        rows.append(
            f'<tbody><tr class="package"><th scope="row">{name(tally.name)}'
            f"{_figures(tally, shares.get(tally.name))}\n"
        )
        for file, own in files[tally.name]:
            directory, slash, base = file.shown.rpartition("/")
            mark = ' <small class="badge">generated</small>' if file.generated else ""
            mark += ' <small class="badge">source changed</small>' if file.changed else ""
            rows.append(
                f'<tr class="file"><th scope="row"><a href="{PAGES}/{href(file)}">'
                f"<span>{name(directory + slash) if directory else ''}</span>{name(base)}</a>{mark}"
                f"{_figures(file.tally, own)}\n"
            )
    total = _figures(report.total, shares.get("TOTAL"))
    rows.append(f'<tfoot><tr><th scope="row">Total{total}</tfoot>\n')
    return _table("packages" if report.sides is None else "packages sides", heads, rows)


def _shares(report: Report) -> list[Sequence[int]]:
    """By file: statements that both, E2E alone, unit tests alone, and neither ran."""
    assert report.sides is not None
    e2e, unit = report.sides.e2e, report.sides.unit
    statements = report.profile.units[:, 4].astype(np.float64)  # exact up to 2^53
    columns = [
        np.bincount(report.profile.file, statements * mask, len(report.files)).astype(np.int64)
        for mask in (e2e & unit, e2e & ~unit, unit & ~e2e, ~(e2e | unit))
    ]
    rows: list[Sequence[int]] = np.stack(columns, axis=1).tolist()
    return rows


def _patch(report: Report) -> str:
    if report.patch is None:
        return ""
    pages = {file.path: href(file) for file in report.files if file.path}
    rows = []
    for file in report.patch.files:
        page_of = pages.get(file.path)
        shown = name(file.path)
        lines = ", ".join(
            f'<a href="{PAGES}/{page_of}#L{span.partition("-")[0]}">{span}</a>' if page_of else span
            for span in spans(file.missed).split()
        )
        link = f'<a href="{PAGES}/{page_of}">{shown}</a>' if page_of else shown
        rows.append(
            f'<tr><th scope="row">{link}<td>{number(len(file.covered) + len(file.missed))}'
            f'<td>{number(len(file.missed))}<td class="text">{lines}\n'
        )
    tally = report.patch.tally
    return (
        f"<p>{tally.percent}: {number(tally.covered)} of {counted(tally.statements, 'line')} with"
        f" statements that changed since {name(report.patch.against)} ran."
        " <small>line-based</small></p>\n"
        + _table("patch", ["File", "Lines", "Not run", "Lines not run"], rows)
    )


def _tests(who: Who | None) -> str:
    if who is None:
        return ""
    rows = [
        f'<tr id="t={key(test.name)}"><th scope="row"><a href="#t={key(test.name)}">'
        f"{name(test.name)}</a>"
        f"<td>{number(len(test.files))}<td>{number(test.lines)}<td>{number(test.alone)}\n"
        for test in who.tests
    ]
    return (
        "<p><small>Line-based: lines with statements that each test ran, and those of them that"
        " nothing else ran.</small></p>\n"
        + _table("tests", ["Test", "Files", "Lines", "Nothing else ran"], rows)
    )


def _containers(report: Report) -> str:
    rows = []
    for one in report.containers:
        mark = "r" if one.verdict == "ok" else "p" if one.allowed or not one.loses else "m"
        builds = ", ".join(f"<code>{name(build[:12])}</code>" for build in one.programs)
        rows.append(
            f'<tr><th scope="row">{name(one.name)}<td class="text">{name(one.node)}'
            f'<td class="text">{name(one.image)}<td class="text">{builds}'
            f'<td class="text"><b class="{mark}">{name(one.verdict)}</b> {name(one.text)}\n'
        )
    heads = ["Container", "Node", "Image", "Build", "How it ended for its coverage"]
    return _table("containers", heads, rows) if rows else ""


def _programs(report: Report) -> str:
    rows = [
        f'<tr><th scope="row"><code>{name(one.hash[:12])}</code><td class="text">{name(one.mode)}'
        f"<td>{number(one.packages)}<td>{number(one.functions)}<td>{number(one.units)}"
        f"<td>{number(one.files)}\n"
        for one in report.programs
    ]
    heads = ["Build", "Mode", "Packages", "Functions", "Blocks", "Counter files"]
    return _table("programs", heads, rows) if rows else ""


def _phases(report: Report) -> str:
    whole = max((phase.begin + phase.seconds for phase in report.phases), default=0) or 1
    rows = [
        f'<tr><th scope="row">{name(phase.name)}<td>{phase.begin:.1f} s<td>{phase.seconds:.1f} s'
        f'<td class="picture"><svg class="bar time" viewBox="0 0 100 8" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect x="{100 * phase.begin / whole:.4g}"'
        f' width="{max(100 * phase.seconds / whole, 0.5):.4g}" height="8"/></svg>\n'
        for phase in report.phases
    ]
    return _table("phases", ["Phase", "Begin", "Took", ""], rows) if rows else ""


def _left_out(report: Report) -> str:
    rows = [
        f'<tr><th scope="row">{name(one.tally.name)}<td>{number(one.tally.statements)}'
        f'<td>{one.tally.percent}<td class="text">{name(one.why)}\n'
        for one in report.left_out
    ]
    return _table("left", ["File", "Statements", "Run", "Why"], rows) if rows else ""
