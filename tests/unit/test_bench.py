"""The bench's arithmetic: ratios, goals and misses, the results' file, the page that is made of it.

What the figures measure is not run here.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import page  # noqa: E402
import pairs  # noqa: E402
import plot  # noqa: E402
import run as bench  # noqa: E402
from machine import Bench  # noqa: E402
from pairs import Curve, Goal, Row  # noqa: E402

AT_MOST = Row("start", "s", (11.0, 12.0, 10.0), "bare", (10.0, 10.0, 10.0), Goal("at most", 1.15))
FASTER = Row("end", "s", (1.0, 2.0, 4.0), "by hand", (12.0, 20.0, 40.0), Goal("faster", 10))
MEDIAN = Row("held up", "ms", (1.5, 2.5, 1.9), goal=Goal("median", 2))
BELOW = Row("memory", "MB", (120.0, 301.0), goal=Goal("below", 300))
LINE = Curve("one reading", "pods", "ms", ((1, (2.0, 3.0, 2.5)), (10, (4.0,)), (50, (20.0,))))


def test_ratio_is_of_each_pair() -> None:
    assert AT_MOST.ratios == [1.1, 1.2, 1.0]
    assert FASTER.ratios == [12.0, 10.0, 10.0]
    # Of the medians it would be another: pairs count.
    assert Row("x", "s", (1.0, 4.0, 9.0), "y", (9.0, 4.0, 1.0)).ratios == [1 / 9, 1.0, 9.0]


def test_text_of_rows() -> None:
    assert AT_MOST.text() == (
        "| start | 11.0 s | 10.0 s bare | 1.10 x (1.00 to 1.20) | ≤ 1.15 x | holds |\n"
    )
    assert FASTER.text() == (
        "| end | 2.00 s | 20.0 s by hand | 10.0 x (10.0 to 12.0) faster | ≥ 10 x faster | holds |\n"
    )
    assert BELOW.text() == "| memory | 301 MB | | | ≤ 300 MB | **MISS** |\n"
    assert MEDIAN.text() == "| held up | 1.90 ms | | (1.50 to 2.50) | ≤ 2 ms | holds |\n"
    alone = Row("alone", "s", (0.0123,), "python", (0.0456,))
    assert alone.text() == "| alone | 0.0123 s | 0.0456 s python | 0.270 x (0.270 to 0.270) | | |\n"


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        (AT_MOST, True),
        (FASTER, True),
        (BELOW, False),
        (MEDIAN, True),
        (Row("x", "ms", (1.0, 2.1, 2.1), goal=Goal("median", 2)), False),
        (Row("x", "s", (1.16,) * 5, "y", (1.0,) * 5, Goal("at most", 1.15)), False),
        (Row("x", "s", (1.15,) * 5, "y", (1.0,) * 5, Goal("at most", 1.15)), True),
        (Row("x", "s", (1.0,) * 5, "y", (9.99,) * 5, Goal("faster", 10)), False),
        # One that is out of the ordinary among five does not decide.
        (Row("x", "s", (1.0, 1.0, 1.0, 1.0, 9.0), "y", (1.0,) * 5, Goal("at most", 1.0)), True),
        # But of a limit all must stay below.
        (Row("x", "MB", (1.0, 1.0, 400.0), goal=Goal("below", 300)), False),
        (Row("x", "s", (5.0,), "y", (1.0,)), None),
    ],
)
def test_goals(row: Row, holds: bool | None) -> None:
    assert row.holds is holds
    assert ("**MISS**" in row.text()) is (holds is False)
    assert row.text().count("|") == pairs.HEAD.splitlines()[0].count("|")


def test_growth_is_judged_by_the_last_step() -> None:
    assert LINE.exponent == pytest.approx(1.0)
    assert LINE.holds
    assert LINE.text() == (
        "| one reading, 1 → 50 pods | 2.50 → 20.0 ms | | x n^1.00 in the last step | ≤ n^1.1 |"
        " holds |\n"
    )
    square = Curve("x", "units", "s", ((1, (1.0,)), (10, (1.0,)), (100, (100.0,))))
    assert square.exponent == pytest.approx(2.0)
    assert "**MISS**" in square.text()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Row("x", "s", ()),
        lambda: Row("x", "s", (1.0, 2.0), "y", (1.0,)),
        lambda: Goal("less", 1.0),
        lambda: Curve("x", "pods", "s", ((1, (1.0,)),)),
        lambda: Curve("x", "pods", "s", ((1, (1.0,)), (2, ()))),
    ],
)
def test_what_is_no_figure_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"x: |no kind"):
        make()


def test_turns_alternate() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], dict[str, float]]:
        def done() -> dict[str, float]:
            order.append(name)
            return {name: float(len(order))}

        return done

    found = pairs.alternate(3, [work("a"), work("b")])
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": (1.0, 4.0, 5.0), "b": (2.0, 3.0, 6.0)}


def test_results_are_kept_by_figure(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    results = pairs.Results(file)
    results.put("start", 5, {"cores": "2"}, [AT_MOST, FASTER])
    results.put("growth", 3, {"cores": "2"}, [LINE])
    results.put("start", 6, {"cores": "4"}, [BELOW])
    again = pairs.Results(file)
    assert again.of("start") == [BELOW]
    assert again.of("growth") == [LINE]
    assert again.of("kept") == []
    assert again.figures["start"]["pairs"] == 6
    file.write_text('{"format": 0, "figures": {}}')
    with pytest.raises(ValueError, match="another version"):
        pairs.Results(file)


def test_format_of_results(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    row = Row("end", "s", (1.0, 2.0), "by hand", (3.0, 4.0), Goal("faster", 2))
    pairs.Results(file).put("end", 2, {"cores": "2"}, [row, LINE])
    written: dict[str, Any] = {
        "figure": "end",
        "unit": "s",
        "ours": [1.0, 2.0],
        "other": "by hand",
        "others": [3.0, 4.0],
        "goal": {"kind": "faster", "limit": 2},
    }
    points = [[1, [2.0, 3.0, 2.5]], [10, [4.0]], [50, [20.0]]]
    curve = {"figure": "one reading", "of": "pods", "unit": "ms", "points": points}
    end = {"pairs": 2, "machine": {"cores": "2"}, "rows": [written], "curves": [curve]}
    assert json.loads(file.read_bytes()) == {"format": pairs.FORMAT, "figures": {"end": end}}
    with pytest.raises(TypeError):
        pairs.from_json({"rows": [{**written, "more": 1}], "curves": []})
    with pytest.raises(KeyError):
        pairs.from_json({"rows": [{"figure": "end"}], "curves": []})


def test_a_miss_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, list[Row]] = {"start": [AT_MOST], "kept": [BELOW]}

    class Module:
        def __init__(self, name: str) -> None:
            self.name = name

        def rows(self, at: Bench) -> list[Row]:
            if self.name == "end":
                raise RuntimeError("no cluster")
            if self.name == "snapshot":
                at.peaks += [120.0, 301.0]
            return found.get(self.name, [])

    monkeypatch.setattr(importlib, "import_module", Module)
    monkeypatch.setattr(Bench, "describe", lambda _: {"cores": "2"})
    words = ["--json", str(tmp_path / "out.json"), "--pairs", "1"]
    assert bench.main([*words, "start"]) == 0
    assert bench.main([*words, "start", "kept"]) == 1
    assert AT_MOST.text() in capsys.readouterr().out
    # What cannot be measured keeps nothing from being measured, and is no success.
    assert bench.main([*words, "end", "start"]) == 1
    shown = capsys.readouterr()
    assert "no cluster" in shown.err
    assert AT_MOST.text() in shown.out
    # So is the memory of pytest, which is every figure's.
    assert bench.main([*words, "snapshot"]) == 1
    assert "| 301 MB | | | ≤ 300 MB | **MISS** |" in capsys.readouterr().out
    assert bench.main([*words, "start"]) == 0
    assert pairs.Results(tmp_path / "out.json").figures.keys() == {"start", "kept", "snapshot"}


@pytest.mark.parametrize("words", [["nothing"], ["--pairs", "0"]])
def test_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize("name", sorted(bench.FIGURES))
def test_every_figure_has_a_module(name: str) -> None:
    assert callable(importlib.import_module(name).rows)


def test_page_is_that_of_the_results() -> None:
    made = page.files(pairs.Results(page.RESULTS))
    for name, content in made.items():
        assert (page.DOCS / name).read_text() == content, "run `script/bench --page`"
    for name in bench.FIGURES:
        assert f"<!-- table {name} -->" in page.WORDS.read_text()
    assert "<!-- table" not in made[page.PAGE.name]
    pictures = {file.name for file in page.DOCS.glob("growth-*.svg")}
    assert pictures == made.keys() - {page.PAGE.name}


def test_page_says_what_is_a_trial(tmp_path: Path) -> None:
    results = pairs.Results(tmp_path / "results.json")
    results.put("start", 1, {"cores": "2"}, [AT_MOST])
    results.put("growth", 5, {"cores": "2"}, [LINE])
    text = page.files(results)["performance.md"]
    assert text.count("A trial of 1") == 1
    assert AT_MOST.text() in text
    assert "Not measured yet: `script/bench --docs kept`." in text
    assert "- start: 1 pairs; cores 2\n- growth: 5 pairs; cores 2\n" in text
    assert "![Growth with pods](growth-pods.svg)" in text


def test_picture_has_every_point() -> None:
    other = Curve("a < b", "pods", "s", ((1, (0.5,)), (50, (0.9, 1.1))))
    root = ElementTree.fromstring(plot.plot([LINE, other]))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == 5
    lines = root.findall(f"{space}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [3, 2]
    texts = [each.text for each in root.iter(f"{space}text")]
    assert {"one reading, ms", "a < b, s", "pods", "1", "10", "50"} <= {*texts}
    # The greater stands higher, and to the right.
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
