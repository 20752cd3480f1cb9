"""Every type of report, read by the tools that people read it with."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lxml import etree
from pycobertura import Cobertura
from pycobertura.filesystem import DirectoryFileSystem

from pytest_kindcov import cli
from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import make, sources, types
from pytest_kindcov.report.lines import lines

if TYPE_CHECKING:
    from shop import Shop

    from pytest_kindcov.report.model import Report

# The published rules of coverage-04.dtd: what an element holds, and the attributes it must have.
RATES = "line-rate branch-rate complexity"
ELEMENTS = {
    "coverage": ("(sources?, packages)", f"{RATES} lines-covered lines-valid branches-covered"
                 " branches-valid version timestamp"),
    "sources": ("(source*)", ""),
    "source": ("(#PCDATA)", ""),
    "packages": ("(package*)", ""),
    "package": ("(classes)", f"name {RATES}"),
    "classes": ("(class*)", ""),
    "class": ("(methods, lines)", f"name filename {RATES}"),
    "methods": ("EMPTY", ""),
    "lines": ("(line*)", ""),
    "line": ("EMPTY", "number hits"),
}  # fmt: skip


def report_of(shop: Shop, **settings: Any) -> Report:
    own = sources.repository(shop.root)
    made = make.report(stores.read([shop.data]), own, make.Run(title="a run"), **settings)
    assert made is not None
    return made


@pytest.fixture
def written(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All types, as the command makes them in the repository."""
    monkeypatch.chdir(shop.root)
    out = tmp_path / "out"
    words = []
    for name, kind in types.TYPES.items():
        place = kind.destination if kind.destination not in ("", types.STDOUT) else name
        words += ["--report", f"{name}:{out / place}"]
    assert cli.main(["report", str(shop.data), *words]) == 0
    return out


def tool(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_total(shop: Shop, written: Path) -> None:
    """Statements are the same in term, JSON, Markdown, Go's profile and the data."""
    data = json.loads((written / "coverage.json").read_text())
    total = data["total"]
    assert total["statements"] == 17
    assert total["covered"] == 10
    for name in ("term", "term-missing"):
        row = (written / name).read_text().splitlines()[-1].split()
        assert row == ["TOTAL", "17", "7", "58.8%"]
    for name in ("coverage.md", "markdown-append"):
        text = (written / name).read_text()
        assert "| **Total** | **17** | **7** | **58.8%** |" in text
        assert text.startswith("## Kind coverage: 58.8%\n\n10 of 17 statements ran.\n")
    func = tool("go", "tool", "cover", f"-func={written / 'coverage.out'}", cwd=shop.root / "shop")
    assert func.split()[-1] == "58.8%"
    merged = tool("go", "tool", "covdata", "percent", f"-i={written / 'covdata'}", cwd=shop.root)
    for name, figures in data["packages"].items():
        assert re.search(rf"{name}\s+coverage: {figures['percent']}% of", merged), name
    for key in ("statements", "covered"):
        assert sum(file[key] for file in data["files"].values()) == total[key]
        assert sum(package[key] for package in data["packages"].values()) == total[key]


def test_go_shows_its_profile(shop: Shop, written: Path, tmp_path: Path) -> None:
    page = tmp_path / "go.html"
    profile = written / "coverage.out"
    tool("go", "tool", "cover", f"-html={profile}", "-o", page, cwd=shop.root / "shop")
    assert "example.com/lib/sum.go (57.1%)" in page.read_text()


def lines_of_xml(path: Path) -> dict[str, dict[int, int]]:
    return {
        str(found.get("filename")): {
            int(line.get("number", 0)): int(line.get("hits", 0))
            for line in found.iterfind("lines/line")
        }
        for found in ET.parse(path).iterfind(".//class")
    }


def lines_of_lcov(path: Path) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for part in path.read_text().split("end_of_record\n")[:-1]:
        (name,) = re.findall("^SF:(.*)$", part, re.M)
        rows = re.findall(r"^DA:(\d+),(\d+)$", part, re.M)
        found[name] = {int(number): int(hits) for number, hits in rows}
        assert f"LF:{len(rows)}\n" in part
        assert f"LH:{sum(hits != '0' for _, hits in rows)}\n" in part
    return found


def test_lines_are_the_same(shop: Shop, written: Path) -> None:
    own = report_of(shop)
    expected = {
        file.path: dict(zip(*(part.tolist() for part in (lines.number, lines.hits)), strict=True))
        for file in own.files
        for lines in [own.lines_of(file)]
    }
    assert lines_of_xml(written / "coverage.xml") == expected
    assert lines_of_lcov(written / "coverage.lcov") == expected
    missing = json.loads((written / "coverage.json").read_text())["files"]
    for file in own.files:
        ranges = missing[file.name]["missing"]
        assert [n for first, last in ranges for n in range(first, last + 1)] == [
            number for number, hits in expected[file.path].items() if not hits
        ]
    assert set(expected) == {"lib/sum.go", "shop/main.go", "shop/api/api.go", "shop/api/zz_gen.go"}
    assert expected["shop/api/api.go"] == {4: 1, 5: 1, 6: 0, 7: 0, 8: 1, 11: 0, 12: 0, 13: 0}


def test_partial_lines() -> None:
    """Two blocks on a line, of which one ran; a brace that ends or begins is no half of one."""
    units = [(1, 1, 5, 2, 1), (3, 9, 3, 20, 1), (5, 2, 7, 3, 2), (9, 1, 10, 1, 1)]
    table = np.array([*units, (12, 1, 12, 9, 0)], np.uint32)
    found, edges = lines(np.zeros(5, np.int32), 1, table, np.array([4, 0, 0, 7, 0], np.uint32))
    assert found.number.tolist() == [1, 2, 3, 4, 5, 6, 7, 9]
    assert found.hits.tolist() == [4, 4, 4, 4, 4, 0, 0, 7]
    assert found.number[found.partial].tolist() == [3]
    assert edges.tolist() == [0, 8]


def test_lines_that_no_file_has() -> None:
    """A profile may claim any: that costs no memory to speak of."""
    table = np.tile(np.array([[1, 1, 2**32 - 1, 1, 1]], np.uint32), (5_000, 1))
    table[0] = [2**32 - 2, 1, 2**32 - 1, 1, 1]
    found, _ = lines(np.arange(5_000, dtype=np.int32), 5_000, table, table[:, 4])
    assert len(found) <= 1 << 23


def test_cobertura_is_valid(written: Path, shop: Shop) -> None:
    rules = "".join(
        f"<!ELEMENT {name} {holds}>"
        + "".join(f"<!ATTLIST {name} {word} CDATA #REQUIRED>" for word in attributes.split())
        for name, (holds, attributes) in ELEMENTS.items()
    )
    tree = etree.parse(written / "coverage.xml")
    dtd = etree.DTD(io.StringIO(rules))
    assert dtd.validate(tree), dtd.error_log
    # What GitLab and Jenkins join to find a file.
    (source,) = tree.findall(".//source")
    for found in tree.iterfind(".//class"):
        assert (Path(source.text) / found.get("filename")).is_file()
        assert found.get("name") == Path(found.get("filename")).name
    root = tree.getroot()
    lines = lines_of_xml(written / "coverage.xml")
    valid = sum(len(rows) for rows in lines.values())
    covered = sum(1 for rows in lines.values() for hits in rows.values() if hits)
    assert (root.get("lines-valid"), root.get("lines-covered")) == (str(valid), str(covered))
    assert float(root.get("line-rate")) == pytest.approx(covered / valid, abs=1e-6)
    assert root.get("timestamp").isdigit()


def test_pycobertura(written: Path, shop: Shop) -> None:
    files = DirectoryFileSystem(str(shop.root))
    own = Cobertura(str(written / "coverage.xml"), filesystem=files)
    assert sorted(own.files()) == ["lib/sum.go", "shop/api/api.go", "shop/api/zz_gen.go",
                                   "shop/main.go"]  # fmt: skip
    assert [line for line, _ in own.missed_lines("shop/api/api.go")] == [6, 7, 11, 12, 13]
    assert [line.status for line in own.file_source("lib/sum.go")][3] == "hit"


def test_diff_cover(written: Path, shop: Shop, tmp_path: Path) -> None:
    """What diff-cover says of the patch is what our own reading of it says."""
    api = shop.root / "shop/api/api.go"
    shop.git("checkout", "-q", "-b", "work")
    before = api.read_text()
    api.write_text(before.replace("return 90 *", "return 80 *").replace("return 100", "return 110"))
    (shop.root / "shop/main.go").rename(shop.root / "shop/moved.go")
    shop.git("add", ".")
    shop.git("commit", "-q", "-m", "two")
    for name in ("coverage.xml", "coverage.lcov"):
        output = tmp_path / "diff.json"
        tool(
            Path(sys.executable).parent / "diff-cover", written / name, "--compare-branch", "main",
            "--format", f"json:{output}", cwd=shop.root,
        )  # fmt: skip
        said = json.loads(output.read_text())["src_stats"]["shop/api/api.go"]
        assert said["violation_lines"] == [6]
        assert said["covered_lines"] == [8]
    words = ["report", str(shop.data), "--root", str(shop.root), "--compare", "main"]
    output = tmp_path / "own.json"
    code = cli.main([*words, "--patch-under", "51", "--report", f"json:{output}"])
    assert code == 1
    own = json.loads(output.read_text())
    assert own["patch"]["files"] == {"shop/api/api.go": {"covered": [[8, 8]], "missing": [[6, 6]]}}
    assert own["gates"][0]["text"] == "FAIL patch 50.0% < 51%, 1 of 2 lines"


@pytest.mark.skipif(shutil.which("genhtml") is None, reason="genhtml is not installed")
def test_genhtml(written: Path, shop: Shop, tmp_path: Path) -> None:
    said = tool("genhtml", written / "coverage.lcov", "-o", tmp_path / "html", cwd=shop.root)
    lines = lines_of_lcov(written / "coverage.lcov")
    covered = sum(1 for rows in lines.values() for hits in rows.values() if hits)
    assert f"({covered} of {sum(map(len, lines.values()))} lines)" in said
    assert len(list((tmp_path / "html").rglob("*.go.gcov.html"))) == 4


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq(written: Path) -> None:
    query = '[.total.percent, .passed, (.files | map_values(.percent) | ."example.com/lib/sum.go")]'
    found = tool("jq", "-c", query, written / "coverage.json", cwd=written)
    assert json.loads(found) == ["58.8", True, "57.1"]


def test_term_missing(written: Path) -> None:
    rows = (written / "term-missing").read_text().splitlines()
    assert rows[0].split() == ["File", "Stmts", "Miss", "Cover", "Missing"]
    (row,) = [row for row in rows if row.startswith("shop/api/api.go")]
    assert row.split(maxsplit=4)[1:] == ["4", "2", "50.0%", "6-7, 11-13"]


def test_generated_files_are_left_out_only_on_request(shop: Shop) -> None:
    own = report_of(shop)
    assert [file.path for file in own.files if file.generated] == ["shop/api/zz_gen.go"]
    assert own.left_out == ()
    less = report_of(shop, exclude=("generated",))
    assert (less.total.statements, less.total.covered) == (15, 9)
    assert len(less.profile.counts) == len(own.profile.counts) - 2
    ((left),) = less.left_out
    assert (left.tally.name, left.tally.statements) == ("shop/api/zz_gen.go", 2)
    assert left.why == "generated"
    for globs in (("lib",), ("lib/*.go",), ("example.com/lib",), ("**/sum.go",), ("./lib",)):
        assert [file.path for file in report_of(shop, include=globs).files] == ["lib/sum.go"], globs
    assert len(report_of(shop, exclude=("./api",)).files) == 4
    assert [f.path for f in report_of(shop, exclude=("api", "main.go")).files] == ["lib/sum.go"]


def test_globs_that_mean_nothing_are_named(shop: Shop) -> None:
    """A misspelt one leaves out what it should keep. One to exclude may be for other days."""
    made = report_of(shop, include=("lib", "shop/aip"), exclude=("generated", "*.pb.go"))
    assert [str(issue) for issue in made.issues] == [
        "shop/aip: there is no such file or package to include"
    ]


def test_what_is_left_out_is_said(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", str(shop.data), "--root", str(shop.root), "--exclude", "generated"]
    assert cli.main([*words, "--report", "term", "--report", "markdown:-"]) == 0
    out = capsys.readouterr().out
    assert "left out (generated): 1 file, 2 statements, 1 of them run" in out
    assert out.count("left out (generated)") == 2
    assert re.search(r"^TOTAL +15 +6 +60\.0%$", out, re.M)


def test_a_directory_with_other_data_is_refused(shop: Shop, tmp_path: Path) -> None:
    own = report_of(shop)
    target = tmp_path / "covdata"
    for _ in range(2):  # its own earlier files are replaced
        types.emit(types.parse(f"covdata:{target}"), own, tmp_path)
    (target / ("covcounters." + "0" * 32 + ".1.2")).touch()
    with pytest.raises(KindCovError, match="has other coverage files"):
        types.emit(types.parse(f"covdata:{target}"), own, tmp_path)


def test_append_to_the_summary_of_a_step(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = report_of(shop)
    request = types.parse("markdown-append")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    where = types.emit(request, own, tmp_path)
    assert where == "no markdown-append: $GITHUB_STEP_SUMMARY is not set"
    summary = tmp_path / "summary.md"
    summary.write_text("before\n\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for _ in range(2):
        assert types.emit(request, own, tmp_path) == str(summary)
    text = summary.read_text()
    assert text.startswith("before\n\n## Kind coverage")
    assert text.count("## Kind coverage: 58.8%") == 2


@pytest.mark.parametrize(
    ("text", "kind", "destination", "modifiers"),
    [
        ("term", "term", None, set()),
        ("term:skip-covered", "term", None, {"skip-covered"}),
        ("term-missing:skip-covered:out.txt", "term-missing", "out.txt", {"skip-covered"}),
        ("xml:a:b.xml", "xml", "a:b.xml", set()),
        ("xml:skip-covered", "xml", "skip-covered", set()),
        ("json:", "json", None, set()),
    ],
)
def test_requests(text: str, kind: str, destination: str | None, modifiers: set[str]) -> None:
    assert types.parse(text) == types.Request(kind, destination, frozenset(modifiers))


@pytest.mark.parametrize("name", ["term", "term-missing", "markdown", "markdown-append"])
def test_skip_covered(tmp_path: Path, name: str) -> None:
    """What is complete has no row, and is in the total."""
    rows = ["m/half/f.go:1.1,2.9 3 1", "m/half/f.go:3.1,4.9 1 0", "m/full/g.go:1.1,2.9 6 1"]
    store = stores.Store(texts=[profiles.read("\n".join(["mode: set", *rows]).encode())])
    own = make.report(store, sources.repository(tmp_path), make.Run())
    assert own is not None
    for modifier, seen in (("", True), (":skip-covered", False)):
        target = tmp_path / f"{name}{modifier}"
        types.emit(types.parse(f"{name}{modifier}:{target}"), own, tmp_path)
        text = target.read_text()
        assert ("m/full" in text) is seen
        assert "m/half" in text
        assert "90.0%" in text
        if name.startswith("term"):
            assert ("1 file with" in text or "1 package with" in text) is not seen
