"""Names and texts that would be markup, lines or commands elsewhere: harmless in every report."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lxml import etree

from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.covdata.model import Granularity, Meta, Mode, Package
from pytest_kindcov.covdata.store import Kind, Problem, Program, Store
from pytest_kindcov.report import block, gate, gotext, make, sources, types
from pytest_kindcov.report.model import Container, Issue, Phase

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Report

NAMES = [
    'quote".go',
    "apostrophe'.go",
    "<script>alert(1)</script>.go",
    "&amp;]]>-->.go",
    "new\nline.go",
    "\nSF:/etc/passwd\nDA:1,1\nend_of_record.go",
    "carriage\rreturn\ttab.go",
    "escape\x1b[31mred\x07.go",
    "| pipe | table |.go",
    "`code` **bold** [link](http://x) @team $x$.go",
    "bidi\u202egnp.go",
    "line\u2028separator\x85.go",
    "surrogate\udcff.go",
    "zero\0byte.go",
    "x" * 10_000 + ".go",
    "dots/../../../../etc/passwd",
    "=cmd|' /C calc'!A0.go",
    "{}%s%n${HOME}$(id).go",
    "\ufffe\uffff\U0001f600.go",
]


@pytest.fixture
def hostile(tmp_path: Path) -> Report:
    """A report in which everything that has a name has a bad one."""
    count = len(NAMES)
    meta = Meta(
        hash=bytes(16),
        mode=Mode.ATOMIC,
        granularity=Granularity.BLOCK,
        packages=tuple(Package(name, "p", "m", bytes(16)) for name in NAMES),
        package_functions=np.arange(count + 1, dtype=np.int32),
        strings=[f"m/{name}" for name in NAMES],
        package_strings=np.arange(count + 1, dtype=np.int32),
        function_units=np.arange(count + 1, dtype=np.int32),
        function_name=np.arange(count, dtype=np.int32),
        function_file=np.arange(count, dtype=np.int32),
        function_literal=np.zeros(count, bool),
        units=np.tile(np.array([[1, 1, 3, 2, 2]], np.uint32), (count, 1)),
    )
    counters = (np.arange(count) % 2).astype(np.uint32)
    store = Store([Program(meta, b"", counters, 1, "covmeta")])
    store.problems = [Problem(Kind.BAD, name, name) for name in NAMES]
    run = make.Run(
        time=1.0,
        title="".join(NAMES),
        containers=tuple(Container(n, n, n, "killed", n, loses=True) for n in NAMES),
        issues=tuple(Issue("", "", name) for name in NAMES),
        phases=tuple(Phase(name, 0.0, 1.0) for name in NAMES),
    )
    (tmp_path / "repo").mkdir()
    made = make.report(store, sources.repository(tmp_path / "repo"), run)
    assert made is not None
    assert len(made.files) == count
    rules = [gate.parse(gate.WARN_UNDER, f"100:{name}") for name in NAMES]
    rules += [gate.parse(gate.WARN_UNDER, "100:*.go")]
    return dataclasses.replace(made, gates=gate.judge(made, rules))


def made(report: Report, kind: str) -> str:
    return types.text(types.Request(kind), report)


def test_all_types_are_utf_8_without_control_codes(hostile: Report) -> None:
    for name, kind in types.TYPES.items():
        if kind.directory:
            continue
        text = made(hostile, name)
        text.encode()
        if name != "go":  # it has Go's own names, byte by byte
            bad = {c for c in text if not c.isprintable() and c != "\n"}
            assert not bad, (name, bad)


def test_xml(hostile: Report) -> None:
    tree = etree.fromstring(made(hostile, "xml").encode())
    names = {str(found.get("filename")) for found in tree.iterfind(".//class")}
    assert names == {file.shown for file in hostile.files}
    assert len(names) == len(NAMES)
    assert tree.findall(".//script") == []
    assert len(tree.findall(".//line")) == 3 * len(NAMES)


def test_lcov(hostile: Report) -> None:
    text = made(hostile, "lcov")
    assert text.count("end_of_record\n") == len(NAMES)
    assert len(re.findall("^SF:", text, re.M)) == len(NAMES)
    assert len(re.findall("^DA:", text, re.M)) == 3 * len(NAMES)
    assert re.fullmatch(r"((TN:|SF:.*|DA:\d+,\d+|LF:\d+|LH:\d+|end_of_record)\n)*", text)


def test_json(hostile: Report) -> None:
    data = json.loads(made(hostile, "json"))
    assert len(data["files"]) == len(NAMES)
    assert len(data["containers"]) == len(NAMES)


def test_markdown(hostile: Report) -> None:
    text = made(hostile, "markdown")
    for word in ("<script", "](", "`", "@team", "$", "**bold"):
        assert word not in text, word
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert len(rows) == len(NAMES) + 3
    assert max(map(len, text.splitlines())) < 20_000
    # Only our own tags.
    assert set(re.findall(r"<[^>]*>", text)) == {"<details>", "</details>", "<summary>",
                                                 "</summary>"}  # fmt: skip


def test_terminal(hostile: Report) -> None:
    for name in ("term", "term-missing"):
        text = made(hostile, name)
        table = text.split("\n", 2 + len(NAMES))[: 2 + len(NAMES)]
        assert max(map(len, table)) <= 120
    for verbosity in (-1, 0, 1):
        lines = block.figures(hostile, [types.parse("term")], verbosity, 80)
        assert all("\n" not in line and "\x1b" not in line for line, _ in lines)


def test_go_text(hostile: Report) -> None:
    """No name begins a line."""
    data = gotext.content(hostile, frozenset())
    assert len(data.decode("utf-8", "surrogateescape").split("\n")) == len(NAMES) + 2
    assert len(profiles.read(data).files) == len(NAMES)


def test_source_that_is_not_utf_8(tmp_path: Path) -> None:
    """Go builds no such source; but it may become one later."""
    (tmp_path / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    text = b"package main\n\n// xx <script>\nfunc main() {\n\tprintln(1)\n}\n"
    (tmp_path / "main.go").write_bytes(text)
    subprocess.run(["go", "build", "-cover", "-o", "p", "."], cwd=tmp_path, check=True)
    (tmp_path / "data").mkdir()
    subprocess.run(["./p"], cwd=tmp_path, check=True, env={"GOCOVERDIR": str(tmp_path / "data")})
    (tmp_path / "main.go").write_bytes(text.replace(b"xx", b"\xe9\xff"))
    report = make.report(stores.read([tmp_path / "data"]), sources.repository(tmp_path), make.Run())
    assert report is not None
    assert [(file.path, file.changed) for file in report.files] == [("main.go", False)]
    for name, kind in types.TYPES.items():
        if not kind.directory:
            assert made(report, name)
    page = Path(types.emit(types.parse("html"), report, tmp_path / "out"))
    (own,) = (file for file in (page.parent / "kindcov").glob("*.html"))
    shown = own.read_bytes().decode()
    assert "// \ufffd\ufffd &lt;script&gt;" in shown
