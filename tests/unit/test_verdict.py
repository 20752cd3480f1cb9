"""One verdict, whatever the figures and whatever became of the files: `kindcov report` as a user
calls it. Its exit code, what it prints, and what stands in every file say the same."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_kindcov import cli, options
from pytest_kindcov.report import make, sources
from pytest_kindcov.report.finish import finish

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shop import Shop

VERDICT = re.compile(r"^(?:PASS|WARN|FAIL) .*$", re.M)
COMPARED = re.compile(r"(\d+(?:\.\d+)?)% (>=|<) (\d+(?:\.\d+)?)%")


def said(words: Iterable[str]) -> tuple[int, str]:
    """The exit code of a command, and what it prints to standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.main(list(words))
    return code, out.getvalue()


def verdict(words: list[str], directory: Path) -> tuple[int, list[str]]:
    """The exit code and the verdicts of `kindcov report`, after all places agree on them."""
    names = {"json": "r.json", "markdown": "r.md", "html": "html", "term": "r.txt"}
    reports = [f"--report={kind}:{directory / name}" for kind, name in names.items()]
    code, printed = said(["report", *words, *reports])
    texts = VERDICT.findall(printed)
    data = json.loads((directory / "r.json").read_text())
    assert [gate["text"] for gate in data["gates"]] == texts
    assert data["passed"] is (code == 0) is not any(text.startswith("FAIL") for text in texts)
    for gate in data["gates"]:
        assert gate["passed"] is gate["text"].startswith("PASS")
        # Every figure of a verdict is true as it stands there.
        for left, sign, right in COMPARED.findall(gate["text"]):
            assert (Fraction(left) >= Fraction(right)) is (sign == ">=") is gate["passed"]
            assert (Fraction(left) == 100) is (gate["covered"] == gate["of"])
    assert VERDICT.findall((directory / "r.txt").read_text()) == texts
    markdown = (directory / "r.md").read_text()
    assert [f"- **{t.split()[0]}**" for t in texts] == re.findall(r"^- \*\*\w+\*\*", markdown, re.M)
    page = (directory / "html/index.html").read_text()
    notes = re.findall(r'<p class="note (good|bad|)"><bdi[^>]*>(PASS|WARN|FAIL) ', page)
    colours = {"PASS": "good", "WARN": "", "FAIL": "bad"}
    assert notes == [(colours[word], word) for word in (text.split()[0] for text in texts)]
    return code, texts


FIGURES = st.one_of(
    st.integers(0, 10**7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.integers(1, 10**7).map(lambda n: (n, n - 1)),
)
PERCENT = st.one_of(
    st.sampled_from(["0", "80", "99.999", "100"]),
    st.decimals(0, 100, places=3, allow_nan=False).map(lambda number: f"{number:f}"),
)


@given(FIGURES, FIGURES, PERCENT, PERCENT)
@example((20_000, 15_999), (0, 0), "80", "80")  # 79.995%
@example((20_000, 16_000), (0, 0), "80", "80")
@example((100_000, 99_999), (1, 1), "100", "100")
@example((100_000, 100_000), (1, 1), "100", "100")
@example((0, 0), (0, 0), "0", "0")
@settings(max_examples=15)
def test_exit_code_text_and_files_agree(
    one: tuple[int, int], two: tuple[int, int], total: str, package: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        profile = directory / "p.out"
        rows = [
            f"example.com/m/{where}/f.go:{line}.1,{line}.9 {count} {line % 2}\n"
            for where, (statements, covered) in (("a", one), ("b", two))
            for line, count in ((1, covered), (2, statements - covered))
        ]
        profile.write_text("mode: set\n" + "".join(rows))
        words = [str(profile), "--root", name]
        words += [f"--fail-under={total}", f"--fail-under={package}:a", f"--warn-under={package}:b"]
        code, _ = verdict(words, directory)
        statements, covered = one[0] + two[0], one[1] + two[1]
        enough = statements > 0 and Fraction(100 * covered, statements) >= Fraction(total)
        of_one = Fraction(100 * one[1], one[0]) if one[0] else Fraction(100)
        assert code == (0 if enough and of_one >= Fraction(package) else 1)


WISHES = [
    ["--fail-under=58.8", "--warn-under=99:lib"],
    ["--fail-under=58.9"],
    ["--fail-under=60:*.go", "--fail-under=0"],
    ["--fail-under=60", "--exclude=generated"],
    ["--fail-under=100", "--include=lib"],
    ["--fail-under=70", "--unit=unit.out"],
    ["--fail-under=1", "--compare=main", "--patch-under=50"],
]


@pytest.mark.parametrize("wish", WISHES, ids=" ".join)
def test_a_run_of_pytest_has_the_same_verdict(
    recorded: Path,
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wish: list[str],
) -> None:
    """With the same wishes as flags of pytest. tests/cluster has its exit code too."""
    from _pytest.config import Config

    monkeypatch.chdir(shop.root)
    api = shop.root / "shop/api/api.go"
    shop.unit(shop.root / "unit.out")
    shop.git("rm", "-q", "--cached", str(api))
    shop.git("commit", "-qm", "two")
    shop.git("branch", "-f", "main")
    code, texts = verdict([str(recorded), "--root", str(shop.root), *wish], tmp_path)
    flags = [word.replace("--", "--kind-coverage-", 1) for word in wish]
    config = Config.fromdictargs({}, [f"--rootdir={shop.root}", *flags])
    done = finish(
        recorded, sources.repository(shop.root), make.Run(), options.resolve(config).wanted()
    )
    assert done.report is not None
    assert [gate.text for gate in done.report.gates] == texts
    assert done.report.passed is (code == 0)


# What may become of a file between the build and the report.
CHANGES = ["keep", "delete", "rename", "edit", "empty", "swap"]
FILES = ["shop/api/api.go", "shop/main.go", "lib/sum.go"]


def change(root: Path, name: str, how: str) -> None:
    file = root / name
    text = file.read_text()
    if how == "delete":
        file.unlink()
    elif how == "rename":
        file.rename(file.with_name("renamed.go"))
    elif how == "edit":
        file.write_text(text.replace("return", "return  ").replace("fmt.Println(", "fmt.Println( "))
    elif how == "empty":
        file.write_text("")
    elif how == "swap":  # renamed, and another in its place
        file.rename(file.with_name("renamed.go"))
        file.write_text(f"package {text.split()[1]}\n")


@pytest.fixture
def recorded(shop: Shop, tmp_path: Path) -> Path:
    """What a run of the shop left."""
    from pytest_kindcov.report import runfile

    directory = tmp_path / "run"
    shutil.copytree(shop.data, directory / "covdata")
    runfile.write(directory, make.Run(recorded=sources.record(sources.repository(shop.root))))
    shop.git("checkout", "-q", "-b", "work")
    return directory


def test_deleted_and_renamed_files(shop: Shop, recorded: Path, tmp_path: Path) -> None:
    """Statements stay those of the build. What is painted, and a patch, are of files that are as
    they were built; of others the patch is unknown, not covered and not missed."""

    @given(
        st.tuples(*[st.sampled_from(CHANGES)] * 3),
        st.booleans(),
        st.sampled_from(["0", "58.8", "59", "100"]),
        st.sampled_from(["0", "50", "100"]),
    )
    @settings(max_examples=12)
    def check(how: tuple[str, ...], committed: bool, total: str, patch: str) -> None:
        shop.git("reset", "-q", "--hard", "main")
        shop.git("clean", "-qfd")
        for name, one in zip(FILES, how, strict=True):
            change(shop.root, name, one)
        shop.git("add", ".")
        if committed:
            shop.git("commit", "-q", "--allow-empty", "-m", "work")
        words = [str(recorded), "--root", str(shop.root), "--compare=main"]
        words += [f"--fail-under={total}", f"--patch-under={patch}", "--warn-under=50:*/api.go"]
        code, texts = verdict(words, tmp_path)
        data = json.loads((tmp_path / "r.json").read_text())
        assert (data["total"]["statements"], data["total"]["covered"]) == (17, 10)
        assert texts[0].startswith("PASS" if total in ("0", "58.8") else "FAIL")
        # Nothing was built since: no line can be both new and known.
        fates = dict(zip(FILES, how, strict=True))
        unknown = {name for name, one in fates.items() if one == "edit"}
        assert data["patch"]["files"] == {}
        assert set(data["patch"]["unknown"]) == unknown
        assert texts[2].startswith("FAIL patch" if unknown else "PASS patch")
        assert code == (1 if unknown or texts[0].startswith("FAIL") else 0)
        files = {file["path"]: file for file in data["files"].values()}
        for name, one in fates.items():
            gone = one in ("delete", "rename")
            assert (name in files) is not gone
            assert gone or files[name]["changed"] is (one != "keep")

    check()


def test_patch_as_diff_cover_sees_it(shop: Shop, tmp_path: Path) -> None:
    """Of files that are as they were built: any of its lines may be what is new."""
    head = {name: (shop.root / name).read_text() for name in FILES}

    @given(st.data())
    @settings(max_examples=5)
    def check(data: st.DataObject) -> None:
        shop.git("checkout", "-q", "--orphan", "old")
        shop.git("reset", "-q")
        for name, text in head.items():
            lines = text.splitlines(keepends=True)
            drop = data.draw(st.sets(st.integers(0, len(lines) - 1)), label=name)
            kept = "".join(line for number, line in enumerate(lines) if number not in drop)
            (shop.root / name).write_text(kept)
        shop.git("add", ".")
        shop.git("commit", "-q", "-m", "old")
        shop.git("branch", "-f", "base")
        for name, text in head.items():
            (shop.root / name).write_text(text)
        shop.git("add", ".")
        shop.git("commit", "-q", "--allow-empty", "-m", "new")
        xml, theirs = tmp_path / "c.xml", tmp_path / "theirs.json"
        words = [str(shop.data), "--root", str(shop.root), "--compare=base", "--patch-under=60"]
        code, (text,) = verdict([*words, f"--report=xml:{xml}"], tmp_path)
        ours = json.loads((tmp_path / "r.json").read_text())["patch"]
        command: list[str | Path] = [
            Path(sys.executable).parent / "diff-cover",
            xml,
            "--compare-branch",
            "base",
        ]
        done = subprocess.run(
            [*command, "--fail-under", "60", "--format", f"json:{theirs}"],
            cwd=shop.root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = json.loads(theirs.read_text())
        missed = {
            name: file["violation_lines"]
            for name, file in said["src_stats"].items()
            if file["violation_lines"]
        }
        assert missed == {
            name: [n for first, last in file["missing"] for n in range(first, last + 1)]
            for name, file in ours["files"].items()
            if file["missing"]
        }
        assert said["total_num_lines"] == ours["lines"]
        assert said["total_num_lines"] - said["total_num_violations"] == ours["covered"]
        if ours["lines"] and not (55 < 100 * ours["covered"] / ours["lines"] < 65):
            assert done.returncode == code, text  # diff-cover rounds down to whole percents
        shop.git("checkout", "-q", "main")
        shop.git("branch", "-qD", "old")

    check()
