"""The HTML report as text: its figures, its lists, its manners. tests/browser looks at it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gocover import MIX

from pytest_kindcov import cli
from pytest_kindcov.covdata import store
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import contexts, html, make, sources, types, who
from pytest_kindcov.report.model import (
    Container,
    Gate,
    Issue,
    Phase,
    Program,
    Sides,
)
from pytest_kindcov.report.tally import Tally
from pytest_kindcov.report.web import index, lists, parts, source
from pytest_kindcov.report.why import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from fractions import Fraction

    from pytest_kindcov.covdata.model import Meta
    from pytest_kindcov.report.model import Report, Source

HOSTILE = (
    "t.py::test_h[\"'<script>alert(1)</script><img src=x onerror=alert(1)>]]>--></title>"
    "\n\r\t\x00\u202e\u2028\udcff]"
)
LONG = "t.py::test_l[" + "x" * 10_000 + "]"


class Read(HTMLParser):
    """A page, read as browsers read it: elements, and the text and the links of each line."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.lines: dict[int, dict[str, str]] = {}
        self.sets: dict[str, list[str]] = {}
        self.text = ""
        self._line: dict[str, str] | None = None
        self._set: list[str] | None = None
        self._gutter = self._item = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "li" and re.fullmatch(r"L\d+", found.get("id") or ""):
            self._line = {"class": found.get("class") or "", "text": "", "set": "", "missed": ""}
            self.lines[int(str(found["id"])[1:])] = self._line
        elif tag == "section":
            self._line = None
            self._set = self.sets.setdefault(found.get("id") or "", [])
        elif tag == "li" and self._set is not None:
            self._set.append("")
            self._item = True
        elif tag == "a" and self._line is not None:
            self._gutter = True
            if (found["href"] or "").startswith("#s"):
                self._line["set"] = str(found["href"])[1:]

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._gutter = False
        elif tag == "ol":
            self._line = None
        elif tag in ("ul", "section"):
            self._item = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._line is not None and not self._gutter:
            self._line["text"] += data.removesuffix("\n")
        elif self._set and self._item:
            self._set[-1] += data


@pytest.fixture
def meta(mix: Callable[[str], Path]) -> Meta:
    (program,) = store.read([mix("atomic")]).programs
    return program.meta


@pytest.fixture
def ran(meta: Meta) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """What contexts of all kinds ran."""
    half = np.arange(len(meta) // 2, dtype=np.int32)
    return {
        "t.py::test_a": half,
        "t.py::test_b|one": half[: len(half) // 2],
        "t.py::test_b|two": half[len(half) // 3 :],
        "t.py::test_c [shared]": half[:9],
        HOSTILE: half[:5],
        LONG: half[:3],
        "background": half[-4:],
        "[startup]": np.arange(len(half), len(half) + 3, dtype=np.int32),
    }


@pytest.fixture
def report(
    tmp_path: Path, mix: Callable[[str], Path], meta: Meta,
    ran: dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]],
) -> Report:  # fmt: skip
    data = contexts.write(
        tmp_path / "data", MIX, {meta.hash: meta}, [(n, {meta.hash: u}) for n, u in ran.items()]
    )
    own = sources.repository(MIX)
    found = make.report(store.read([mix("atomic")]), own, make.Run(data=data))
    assert found is not None
    return found


def written(directory: Path, report: Report) -> Path:
    """As the command does it; the first page."""
    return Path(types.emit(types.parse(f"html:{directory}"), report, directory))


def pages(first: Path, report: Report) -> list[tuple[Source, Read]]:
    directory = first.parent / index.PAGES
    return [
        (file, Read((directory / index.href(file)).read_text("utf-8"))) for file in report.files
    ]


def test_figures_are_the_report_s(tmp_path: Path, report: Report) -> None:
    first = Read(written(tmp_path / "out", report).read_text("utf-8"))
    assert report.total.percent in first.text
    total = report.total
    assert f"{total.covered} of {total.statements} statements run" in first.text
    for tally in report.packages:
        assert f"{tally.name}{tally.statements}{tally.missed}{tally.percent}" in first.text


def test_lines_are_the_report_s(tmp_path: Path, report: Report) -> None:
    for file, page in pages(written(tmp_path, report), report):
        assert file.file is not None
        lines = report.lines_of(file)
        hits = dict(zip(lines.number.tolist(), lines.hits.tolist(), strict=True))
        source = file.file.read_text().removesuffix("\n").split("\n")
        assert [line["text"] for line in page.lines.values()] == source
        assert list(page.lines) == list(range(1, len(source) + 1))
        for number, line in page.lines.items():
            want = "" if number not in hits else "r" if hits[number] else "m"
            assert line["class"] in ({want, "p"} if want == "r" else {want}), number


@pytest.mark.parametrize("whole", [True, False])
def test_every_line_leads_to_exactly_what_ran_it(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    if not whole:
        monkeypatch.setattr(lists, "_MOST", 0)
    assert report.data is not None
    first = written(tmp_path, report)
    names = first.parent / index.PAGES / lists.NAMES
    assert names.exists() is not whole
    numbered = re.findall(r"<li>(.*)", names.read_text("utf-8")) if names.exists() else []
    known = who.read(report.data)
    checked = 0
    for file, page in pages(first, report):
        truth = lines_by_context(report.data, file)
        for number, line in page.lines.items():
            want = sorted(name for name, ran in truth.items() if number in ran)
            if whole:
                have = page.sets.get(line["set"], [])
                assert sorted(have) == sorted(Read(f"<b>{parts.name(n)}").text for n in want)
            elif want:
                text = re.search(rf"<section id={line['set']}>.*?<p>([\d -]+)<", raw(first, file))
                assert text is not None
                have = [numbered[one - 1] for one in numbers(text[1])]
                assert sorted(have) == sorted(map(parts.name, want))
            checked += bool(want)
    assert checked > 20
    assert {context.kind for context in known.contexts} == set(Kind)


def test_lists_say_how_sure_it_is() -> None:
    names = [
        ("a", Kind.EXACT, 0),
        ("b|one", Kind.EXACT, 1),
        ("b|two", Kind.EXACT, 1),
        ("b [shared]", Kind.SHARED, 1),
        ("c [shared]", Kind.SHARED, 2),
        ("background", Kind.OUTSIDE, -1),
    ]
    found = [who.Context(*each) for each in names]
    made = lists.Lists(who.Who(0, found, [who.Test(n) for n in "abc"], {}, {}))

    def groups(members: list[int]) -> list[tuple[str, list[str]]]:
        panel = made.panel(0, members, [7, 8, 9, 12])
        assert "Lines 7-9 12" in panel
        return [
            (title, Read(f"<section>{items}").sets[""])
            for title, items in re.findall("<h4>(.*?)</h4><ul>(.*?)</ul>", panel)
        ]

    shared = "may have run it; others used the instance too"
    assert groups([0, 1, 2, 3, 4, 5]) == [
        ("2 tests ran it", ["a", "b|one", "b|two"]),
        (f"2 tests {shared}", ["b [shared]", "c [shared]"]),
        ("Outside of tests", ["background"]),
    ]
    assert groups([4]) == [(f"1 test {shared}", ["c [shared]"])]
    signs = {">3<": [0, 1, 2, 3, 4, 5], ">1<": [1, 2, 3], ">~2<": [3, 4, 5], ">·<": [5]}
    for sign, members in signs.items():
        assert sign in made.link(0, members)


def raw(first: Path, file: Source) -> str:
    return (first.parent / index.PAGES / index.href(file)).read_text("utf-8")


def numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(" "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def lines_by_context(data: Path, file: Source) -> dict[str, set[int]]:
    """As coverage.py reads it."""
    from coverage import CoverageData

    found: dict[str, set[int]] = {}
    coverage = CoverageData(str(data))
    coverage.read()
    for line, names in coverage.contexts_by_lineno(str(file.file)).items():
        for name in names:
            found.setdefault(name, set()).add(line)
    coverage.close(force=True)
    return found


def test_tests_have_the_figures_of_kindcov_why(
    tmp_path: Path, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.data is not None
    known = who.read(report.data)
    assert [test.name[:12] for test in known.tests] == sorted(t.name[:12] for t in known.tests)
    for test in known.tests:
        if test.name == known.tests[0].name or "test_b" in test.name:
            assert cli.main(["why", test.name, "--data", str(report.data)]) == 0
            match = re.search(r"ran (\d+) lines? in (\d+) files?; (\d+)", capsys.readouterr().out)
            assert match is not None
            assert [int(n) for n in match.groups()] == [test.lines, len(test.files), test.alone]
    text = Read(written(tmp_path, report).read_text("utf-8")).text
    for test in known.tests:
        assert f"{len(test.files)}{test.lines}{test.alone}\n" in text


def test_hostile_names_are_text(tmp_path: Path, report: Report) -> None:
    evil = '"><script>alert(1)</script><svg onload=alert(1)>\n\x00\u202e\udcff' + "y" * 10_000
    report = dataclasses.replace(
        report,
        title=evil,
        programs=(Program(evil, evil, 1, 1, 1, 1),),
        containers=(Container(evil, evil, evil, evil, evil, True, False, (evil,)),),
        issues=(Issue(evil, evil, evil),),
        phases=(Phase(evil, 0, 1),),
        files=tuple(
            dataclasses.replace(
                file, name=f"{evil}/{number}", path=f"../../{evil}{number}", package=evil
            )
            for number, file in enumerate(report.files)
        ),
        gates=(Gate("fail-under", evil, fraction(80), Tally(evil, 1, 1), True, evil),),
    )
    first = written(tmp_path / "out", report)
    there = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*"))
    page = r"(kindcov/)?([0-9a-f]{12}|index|contexts)\.html"
    other = r"kindcov(/(file|index|run|ran)\.js|/style\.css)?"
    for path in there:
        assert re.fullmatch(f"{page}|{other}", str(path))
    for file in first.parent.rglob("*.html"):
        text = file.read_text("utf-8")
        harmless(text)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2028]", text)
        # Long names are cut, and stand whole in a title.
        for cell in re.findall(r"<bdi[^>]*>([^<]*)</bdi>", text):
            assert len(cell) < 1_000
    assert "y" * 10_000 in first.read_text("utf-8")
    for script in ("run.js", "ran.js"):
        text = (first.parent / "kindcov" / script).read_bytes().decode("ascii")
        match = re.fullmatch(r"window\.\w+ = (.*);\n", text)
        assert match is not None
        json.loads(match[1])
        assert "<" not in text


def fraction(number: int) -> Fraction:
    from fractions import Fraction

    return Fraction(number)


def harmless(text: str) -> None:
    """No element, attribute or address that the report itself does not write."""
    assert "default-src 'none'" in text
    for tag, attributes in Read(text).tags:
        assert tag not in ("img", "iframe", "object", "form", "base", "style")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style"
            if name in ("href", "src"):
                assert re.fullmatch(
                    r"(\.\./|kindcov/)?([0-9a-f]{12}|index|contexts)\.html"
                    r"|(kindcov/)?[a-z]+\.(js|css)|data:,|[^#:]*#[\w=-]+",
                    value or "",
                ), value


def source_of(report: Report, **changes: object) -> Report:
    """With the first file changed."""
    first, *others = report.files
    return dataclasses.replace(report, files=(dataclasses.replace(first, **changes), *others))  # type: ignore[arg-type]


@pytest.mark.parametrize("why", ["changed", "missing", "short"])
def test_source_that_was_not_built_is_not_painted(tmp_path: Path, report: Report, why: str) -> None:
    changes: dict[str, dict[str, object]] = {
        "changed": {"changed": True},
        "missing": {"file": None},
        "short": {"file": tmp_path / "short.go"},
    }
    (tmp_path / "short.go").write_text("package secret\n")
    report = source_of(report, **changes[why])
    file, page = pages(written(tmp_path / "out", report), report)[0]
    assert "The source is not shown" in page.text
    assert "package secret" not in page.text
    lines = report.lines_of(file)
    assert list(page.lines) == lines.number.tolist()
    assert {line["text"] for line in page.lines.values()} == {""}
    assert {line["class"] for line in page.lines.values()} <= {"r", "m", "p"}
    assert sum(bool(line["set"]) for line in page.lines.values()) > 0


def test_text_of_any_bytes(tmp_path: Path, report: Report) -> None:
    name = report.files[0].file
    assert name is not None
    text = name.read_bytes()
    evil = b"// </ol></main><script>alert(1)</script> & \xff\xfe \x00 \xe2\x80\xae x\r\n" * 3
    (tmp_path / "evil.go").write_bytes(text + evil)
    report = source_of(report, file=tmp_path / "evil.go")
    first = written(tmp_path / "out", report)
    file, page = pages(first, report)[0]
    harmless(raw(first, file))
    assert page.lines[len(page.lines)]["text"] == (
        "// </ol></main><script>alert(1)</script> & \ufffd\ufffd \\x00 \\u202e x"
    )


def test_what_did_not_run_of_a_line_is_marked(tmp_path: Path, report: Report) -> None:
    text = (
        "package p\n\nfunc f(x bool) int {\n\tif x { return 1 }\n"
        "\tif x {\n\t\treturn 3\n\t}; g()\n\treturn 2 // é\n}\n"
    )
    (tmp_path / "p.go").write_text(text)
    units = np.array(
        [[3, 21, 4, 7, 1], [4, 7, 4, 19, 1], [5, 2, 5, 7, 1], [5, 7, 7, 3, 1], [7, 5, 8, 10, 2]],
        np.uint32,
    )
    counts = np.array([2, 0, 2, 0, 2], np.uint32)
    profile = dataclasses.replace(
        report.profile,
        files=report.profile.files[:1],
        file=np.zeros(5, np.int32),
        function=np.zeros(5, np.int32),
        units=units,
        counts=counts,
    )
    from pytest_kindcov.report.lines import lines

    found, edges = lines(profile.file, 1, units, counts)
    small = dataclasses.replace(
        report.files[0], file=tmp_path / "p.go", blocks=slice(0, 5), lines=slice(0, int(edges[1]))
    )
    report = dataclasses.replace(report, profile=profile, files=(small,), lines=found, data=None)
    first = written(tmp_path / "out", report)
    file, page = pages(first, report)[0]
    classes = [line["class"] for line in page.lines.values()]
    assert classes == ["", "", "r", "p", "r", "m", "r", "r", ""]
    assert "if x <u>{ return 1 }</u>" in raw(first, file)
    # A brace alone is not worth a mark.
    assert raw(first, file).count("<u>") == 1
    assert not (first.parent / index.PAGES / "run.js").exists()


def test_unit_tests_have_their_own_signs(tmp_path: Path, report: Report) -> None:
    ran = report.profile.covered
    half = np.arange(len(ran)) % 2 == 0
    report = dataclasses.replace(report, sides=Sides(e2e=ran & half, unit=ran & ~half))
    first = written(tmp_path, report)
    text = Read(first.read_text("utf-8")).text
    total = report.shares()[-1]
    assert f"{total.both}{total.e2e}{total.unit}{total.neither}\n" in text
    classes = {line["class"] for _, page in pages(first, report) for line in page.lines.values()}
    assert {"r e", "r u"} <= classes


def test_a_report_is_replaced_and_nothing_else(tmp_path: Path, report: Report) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    written(tmp_path, report)
    before = {path.name for path in (tmp_path / index.PAGES).iterdir()}
    written(tmp_path, dataclasses.replace(report, files=report.files[:1], data=None))
    after = {path.name for path in (tmp_path / index.PAGES).iterdir()}
    assert after < before
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["data", "index.html", "kindcov", "notes.txt"]  # noqa: PTH208


@pytest.mark.parametrize("name", ["index.html", index.PAGES])
def test_what_is_not_a_report_is_left_alone(tmp_path: Path, report: Report, name: str) -> None:
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir()
    if name == index.PAGES:
        foreign.mkdir()
    else:
        foreign.write_text("<html>mine</html>")
    with pytest.raises(KindCovError, match="is in its place"):
        written(foreign.parent, report)
    assert list(foreign.parent.iterdir()) == [foreign]


def test_no_part_of_a_report_stays(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(tmp_path / "out", report)
    before = first.read_bytes()

    def fails(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source, "render", fails)
    with pytest.raises(KindCovError, match="No space left"):
        written(tmp_path / "out", report)
    assert first.read_bytes() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "kindcov"}


def test_assets_are_in_the_package() -> None:
    from importlib.resources import files

    web: Iterable[str] = (path.name for path in files("pytest_kindcov.report.web").iterdir())
    assert set(html._ASSETS) <= set(web)
