"""One verdict: what is printed, written, and made the exit code, from exact fractions."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindcov import cli
from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata.store import Store
from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.report import gate, jsonfile, make, markdown, patch, sources, terminal
from pytest_kindcov.report.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

    from shop import Shop

    from pytest_kindcov.report.model import Patch, Report

WORDS = re.compile(r"(PASS|FAIL|WARN) .*?(\d+\.\d+)% (>=|<) (\d+(?:\.\d+)?)%")


def report(files: dict[str, tuple[int, int]]) -> Report:
    """A report of files `example.com/m/P/F.go` with so many statements, of which so many ran."""
    text = ["mode: set"]
    for name, (statements, covered) in files.items():
        text.append(f"example.com/m/{name}:1.1,2.2 {covered} 1")
        text.append(f"example.com/m/{name}:3.1,4.2 {statements - covered} 0")
    store = Store(texts=[profiles.read("\n".join(text).encode())])
    made = make.report(store, sources.repository("/nonexistent"), make.Run(time=1.0))
    assert made is not None
    return made


def judged(files: dict[str, tuple[int, int]], *rules: gate.Rule) -> Report:
    own = report(files)
    return dataclasses.replace(own, gates=gate.judge(own, rules))


FIGURES = st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
MINIMUM = st.one_of(
    st.integers(0, 100).map(str),
    st.decimals(0, 100, places=3, allow_nan=False).map(lambda d: f"{d:f}"),
)


@given(FIGURES, MINIMUM)
def test_text_and_verdict_are_one(figures: tuple[int, int], minimum: str) -> None:
    own = judged({"p/f.go": figures}, gate.parse(gate.FAIL_UNDER, minimum))
    statements, covered = figures
    expected = Fraction(100 * covered, statements) >= Fraction(minimum)
    (found,) = own.gates
    assert found.passed == own.passed == expected
    match = WORDS.fullmatch(found.text)
    assert match is not None, found.text
    word, printed, sign, limit = match.groups()
    assert (word == "PASS") == (sign == ">=") == expected
    # The text is true as it stands there.
    assert (Fraction(printed) >= Fraction(limit)) == expected
    assert (Fraction(printed) == 100) == (covered == statements)
    data = json.loads(jsonfile.content(own, frozenset()))
    assert data["passed"] == data["gates"][0]["passed"] == expected
    assert data["gates"][0]["text"] == found.text
    assert f"- **{word}** " in markdown.content(own, frozenset()).decode()
    assert found.text in terminal.content(own, frozenset()).decode()


@pytest.mark.parametrize(
    ("covered", "statements", "minimum", "text"),
    [
        (15_999, 20_000, "80", "FAIL total 79.995% < 80%"),
        (4, 5, "80", "PASS total 80.0% >= 80%"),
        (99_999, 100_000, "100", "FAIL total 99.9% < 100%"),
        (100_000, 100_000, "100", "PASS total 100.0% >= 100%"),
        (99_999, 100_000, "99.95", "PASS total 99.999% >= 99.95%"),
        (0, 3, "0", "PASS total 0.0% >= 0%"),
        (1, 100_000, "0.1", "FAIL total 0.00% < 0.1%"),
        (2, 3, "66.7", "FAIL total 66.67% < 66.7%"),
    ],
)
def test_at_the_limit(covered: int, statements: int, minimum: str, text: str) -> None:
    own = judged({"p/f.go": (statements, covered)}, gate.parse(gate.FAIL_UNDER, minimum))
    assert own.gates[0].text == text


def test_packages_and_files() -> None:
    files = {"api/a.go": (10, 9), "api/b.go": (10, 1), "store/s.go": (4, 4)}
    rules = {
        "50:api": "PASS example.com/m/api 50.0% >= 50% (of 1 that are api)",
        "51:api": "FAIL example.com/m/api 50.0% < 51% (of 1 that are api)",
        "60:*": "FAIL example.com/m/api 50.0% < 60% (of 2 that are *)",
        "95:*.go": "FAIL example.com/m/api/b.go 10.0% < 95% (and 1 more of 3 that are *.go)",
        "100:store": "PASS example.com/m/store 100.0% >= 100% (of 1 that are store)",
        "0:gone": "FAIL no package is gone, which must have 0%",
        "0:gone.go": "FAIL no file is gone.go, which must have 0%",
        "58.3": "PASS total 58.3% >= 58.3%",
    }
    own = judged(files, *(gate.parse(gate.FAIL_UNDER, rule) for rule in rules))
    assert [found.text for found in own.gates] == list(rules.values())
    assert not own.passed


def test_a_warning_fails_nothing() -> None:
    own = judged({"p/f.go": (10, 1)}, gate.parse(gate.WARN_UNDER, "80"))
    assert own.gates[0].text == "WARN total 10.0% < 80%"
    assert own.passed


def test_nothing_to_cover() -> None:
    own = judged({"p/f.go": (0, 0)}, gate.parse(gate.FAIL_UNDER, "1"))
    assert own.gates[0].text == "FAIL total has no statements, and must have 1% of them covered"


@pytest.mark.parametrize("text", ["", "x", "-1", "101", "100.1", "1e1", "80;", "nan", "٣"])
def test_no_limits(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        gate.parse(gate.FAIL_UNDER, text)
    with pytest.raises(ValueError, match="glob"):
        gate.parse(gate.PATCH_UNDER, "80:x")


def test_exit_code(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", str(shop.data), "--root", str(shop.root)]
    for minimum, report_type, code in (
        ("58.8", "", 0), ("59", "", 1), ("59", "json:-", 1), ("59", "term", 1), ("100:lib", "", 1),
        ("57:lib", "markdown:-", 0),
    ):  # fmt: skip
        assert cli.main([*words, "--fail-under", minimum, "--report", report_type]) == code
        said = capsys.readouterr()
        word = "FAIL" if code else "PASS"
        stream = said.err if report_type.endswith("-") else said.out
        assert re.search(f"^{word} (total|example.com/lib)", stream, re.M), said
        if not report_type:
            assert said.out.startswith("TOTAL 58.8% (10 of 17 statements)\n")
    assert cli.main([*words, "--warn-under", "99"]) == 0
    assert "WARN total" in capsys.readouterr().out


# Patches.


def patch_of(shop: Shop, against: str = "main") -> Patch:
    store = Store()
    from pytest_kindcov.covdata import store as stores

    store = stores.read([shop.data])
    own = make.report(store, sources.repository(shop.root), make.Run())
    assert own is not None
    found, _ = patch.read(own, against)
    return found


def test_patch_of_every_kind(shop: Shop) -> None:
    """Committed, staged, not staged, not known to git; moved; gone; the other branch went on."""
    shop.git("checkout", "-q", "-b", "work")
    main = shop.root / "shop/main.go"
    main.write_text(main.read_text().replace('"with"', '"WITH"'))
    shop.git("commit", "-qam", "two")
    api = shop.root / "shop/api/api.go"
    api.write_text(api.read_text().replace("return 90", "return 80"))
    shop.git("add", ".")
    shop.git("mv", "lib/sum.go", "lib/sum2.go")
    shop.git("mv", "lib/sum2.go", "lib/sum.go")
    shop.git("checkout", "-q", "main", "--", "lib/go.mod")
    shop.git("rm", "-q", "--cached", "shop/api/zz_gen.go")  # git no longer knows it
    found = patch_of(shop)
    rows = {file.path: (file.covered, file.missed) for file in found.files}
    assert rows == {
        "shop/main.go": ((), (13,)),
        "shop/api/api.go": ((), (6,)),
        "shop/api/zz_gen.go": ((5,), (7,)),
    }
    assert found.tally == Tally("patch", 4, 1)
    shop.git("rm", "-qf", "shop/api/api.go")
    assert "shop/api/api.go" not in {file.path for file in patch_of(shop).files}


def test_moved_file_has_only_what_changed(shop: Shop) -> None:
    shop.git("checkout", "-q", "-b", "work")
    shop.git("mv", "lib/sum.go", "lib/away.go")
    shop.git("commit", "-qam", "moved")
    assert patch.added(shop.root, "main").get("lib/away.go", set()) == set()
    away = shop.root / "lib/away.go"
    away.write_text(away.read_text().replace("total := 0", "total := 1"))
    assert patch.added(shop.root, "main")["lib/away.go"] == {5}


def test_names_in_a_patch(shop: Shop) -> None:
    names = ['quote".go', "tab\there.go", "späť.go", "new\nline.go", "back\\slash.go", "sp ace.go"]
    for name in names:
        (shop.root / "lib" / name).write_text("package lib\n")
    shop.git("add", ".")
    found = patch.added(shop.root, "main")
    shown = [name.replace("\t", "\\t").replace("\n", "\\n") for name in names]
    assert {key for key, lines in found.items() if lines == {1}} == {f"lib/{n}" for n in shown}


def test_unknown_commits(shop: Shop, tmp_path: Path) -> None:
    for against in ("no-such-branch", "--output=/tmp/x", "-h"):
        with pytest.raises(CoverageDataError, match=r"\[commit-unknown\]"):
            patch.added(shop.root, against)
    with pytest.raises(CoverageDataError):
        patch.added(tmp_path / "repo" / "nowhere", "main")


def test_changed_files_are_not_judged(shop: Shop) -> None:
    """Lines that were not built: neither covered nor missed."""
    shop.git("checkout", "-q", "-b", "work")
    api = shop.root / "shop/api/api.go"
    api.write_text("package api\n\n// All is new.\nfunc Price() {}\n")
    from pytest_kindcov.covdata import store as stores

    own = make.report(stores.read([shop.data]), sources.repository(shop.root), make.Run())
    assert own is not None
    assert [file.path for file in own.files if file.changed] == ["shop/api/api.go"]
    found, issues = patch.read(own, "main")
    assert (found.files, found.unknown) == ((), ("shop/api/api.go",))
    assert [issue.name for issue in issues] == ["shop/api/api.go"]
    rules = [gate.parse(gate.PATCH_UNDER, "80")]
    (of_patch,) = gate.judge(dataclasses.replace(own, patch=found), rules)
    assert of_patch.text == "FAIL patch has lines of files that changed since the build: unknown"


def test_lines_that_look_like_heads() -> None:
    diff = (
        b"diff --git a/x.go b/x.go\n--- a/x.go\n+++ b/x.go\n"
        b"@@ -1,2 +1,2 @@ f\n---- a/y.go\n--x\n++++ b/y.go\n+@@ -1 +9 @@\n"
        b"\\ No newline at end of file\n"
        b"@@ -8,0 +9 @@\n+y\n--- a/gone.go\n+++ /dev/null\n@@ -1 +0,0 @@\n-z\n"
    )
    assert patch.parse(diff) == {"x.go": {1, 2, 9}}
