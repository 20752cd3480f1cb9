"""Runs put together: shards of a CI matrix, unit tests, the run before."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_kindcov import cli
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.report import contexts, datafile, make, runfile, sources, texts
from pytest_kindcov.report.finish import finish
from pytest_kindcov.report.model import Container, Issue, Phase
from pytest_kindcov.report.tally import Tally
from pytest_kindcov.report.wanted import Wanted

if TYPE_CHECKING:
    from pathlib import Path

    from shop import Shop


def leave(shop: Shop, directory: Path, data: Path, test: str, root: Path) -> None:
    """What a run leaves, of a machine where the repository is at `root`."""
    shutil.copytree(data, directory / "covdata")
    (program,) = stores.read([data]).programs
    own = sources.repository(root)
    ran = np.flatnonzero(program.counters).astype(np.int32)
    written = contexts.write(directory, own, {program.meta.hash: program.meta}, [
        (test, {program.meta.hash: ran}), ("background", {program.meta.hash: ran[:1]}),
    ])  # fmt: skip
    container = Container("shop/web-1/web", "node", "web:1", "ok", programs=(program.hash,))
    runfile.write(directory, make.Run(
        time=1_700_000_000.0, title=f"run of {test}", recorded=sources.record(own),
        containers=(container,), phases=(Phase("tests", 1.0, 2.0),), data=written,
    ))  # fmt: skip


@pytest.fixture
def shards(shop: Shop, tmp_path: Path) -> list[str]:
    """Two runs of one build, on machines with the repository in different places."""
    for number, data in enumerate((shop.data, shop.other)):
        root = tmp_path / f"machine{number}"
        shutil.copytree(shop.root, root)
        leave(shop, tmp_path / f"shard-{number}", data, f"t.py::test_{number}", root)
        shutil.rmtree(root)
    return [str(tmp_path / f"shard-{number}") for number in (0, 1)]


def contexts_of(path: Path) -> dict[tuple[str, str], list[int]]:
    """By context and file, the lines that ran."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT context, path, numbits FROM line_bits"
            " JOIN file ON file.id = file_id JOIN context ON context.id = context_id"
        ).fetchall()
    connection.close()
    return {(context, file): datafile.numbers(datafile.bits(bits)) for context, file, bits in rows}


def test_shards(
    shop: Shop, shards: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    words = ["report", *shards, "--root", str(shop.root), "--dir", str(out)]
    assert cli.main([*words, "--report", f"json:{out / 'coverage.json'}", "--report", "term"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^TOTAL +17 +6 +64\.7%$", said.out, re.M)  # one more than either alone
    assert said.err == ""
    data = json.loads((out / "coverage.json").read_text())
    assert len(data["containers"]) == 2
    assert data["programs"][0]["counter_files"] == 2
    assert data["title"] == "run of t.py::test_0; run of t.py::test_1"
    assert not any(file["changed"] for file in data["files"].values())
    found = contexts_of(out / ".coverage")
    main = str(shop.root / "shop/main.go")
    assert {context for context, _ in found} == {"t.py::test_0", "t.py::test_1", "background"}
    assert set(found["t.py::test_1", main]) - set(found["t.py::test_0", main]) == {13}
    assert all(path.startswith(str(shop.root)) for _, path in found)
    # The merged directory is that of a run itself: why, and a second report.
    assert cli.main(["why", "main.go:13", "--data", str(out)]) == 0
    assert "t.py::test_1" in capsys.readouterr().out
    assert cli.main(["report", str(out), "--root", str(shop.root)]) == 0
    assert re.search(r"^TOTAL +17 +6 +64\.7%$", capsys.readouterr().out, re.M)


def test_shard_without_its_hidden_files(
    shop: Shop, shards: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As actions/upload-artifact leaves it by default: named, not silently without its tests."""
    (tmp_path / "shard-0/.coverage").unlink()
    assert cli.main(["report", *shards, "--root", str(shop.root)]) == 0
    said = capsys.readouterr()
    assert "64.7%" in said.out
    assert said.err.count(".coverage: is not there") == 1
    assert f"{tmp_path / 'shard-0/.coverage'}: is not there" in said.err


def test_shards_of_different_source(shop: Shop, shards: list[str], tmp_path: Path) -> None:
    run = json.loads((tmp_path / "shard-1/run.json").read_text())
    run["sources"]["lib/sum.go"] = "0" * 64
    (tmp_path / "shard-1/run.json").write_text(json.dumps(run))
    output = tmp_path / "out.json"
    assert (
        cli.main(["report", *shards, "--root", str(shop.root), "--report", f"json:{output}"]) == 0
    )
    files = json.loads(output.read_text())["files"]
    assert [name for name, file in files.items() if file["changed"]] == ["example.com/lib/sum.go"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "time": "x"}', "[" * 10_000, "\0"]
)
def test_damaged_record_of_a_run(
    shop: Shop, shards: list[str], tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shard-0/run.json").write_text(text)
    assert cli.main(["report", *shards, "--root", str(shop.root)]) == 0
    said = capsys.readouterr()
    assert "64.7%" in said.out
    assert "run.json: cannot be used" in said.err


def test_record_of_a_run_is_read_as_written(tmp_path: Path) -> None:
    run = make.Run(
        time=5.5, title="t", recorded={"a.go": "ff"},
        containers=(Container("a/b/c", "n", "i", "killed", "was", True, True, ("00",)),),
        issues=(Issue("k", "n", "r"),), phases=(Phase("p", 1.0, 2.0),),
    )  # fmt: skip
    runfile.write(tmp_path, run)
    assert runfile.read(tmp_path) == run
    assert runfile.read(tmp_path / "nowhere") == make.Run()


def test_append(shop: Shop, tmp_path: Path) -> None:
    """What is known of earlier runs stays."""
    directory = tmp_path / ".kindcov"
    leave(shop, directory, shop.data, "t.py::test_0", shop.root)
    own = sources.repository(shop.root)
    run = make.Run(time=1_800_000_000.0, title="second", phases=(Phase("tests", 0.0, 1.0),))
    done = finish(directory, own, run, Wanted(), append=True)
    assert done.report is not None
    assert (done.report.title, done.report.phases) == ("second", run.phases)
    assert len(done.report.containers) == 1
    assert set(runfile.read(directory).recorded) >= {"lib/sum.go"}


# The run before.


def test_trend(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "--root", str(shop.root)]
    before = tmp_path / "before.json"
    assert cli.main([*words, str(shop.data), "--report", f"json:{before}"]) == 0
    both = [*words, str(shop.data), str(shop.other), "--previous", str(before)]
    assert cli.main([*both, "--report", "term", "--report", "markdown:-"]) == 0
    said = capsys.readouterr().out
    assert said.count("58.8%; now 64.7%, ") == 2
    assert re.search(r"^before \(.*\): 58\.8%; now 64\.7%, \+5\.9 points"
                     r" \(statements: \+1 run, \+0 in all\)$", said, re.M)  # fmt: skip
    assert cli.main([*words, str(shop.data), "--previous", str(before)]) == 0
    assert "now 58.8%, unchanged" in capsys.readouterr().out
    before.write_text('{"total": {"statements": 1, "covered": 2}, "time": 1}')
    assert cli.main([*both]) == 1
    assert "is no JSON report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        ((10, 5), (10, 5), ""),
        ((10, 5), (4, 2), ""),
        ((10, 6), (10, 5), "+10.0 points"),
        ((100_000, 50_000), (100_000, 50_004), "-0.004 points"),
        ((10**7, 10**7 - 1), (10**7, 10**7), "-0.00001 points"),
    ],
)
def test_a_change_is_not_shown_as_none(
    now: tuple[int, int], before: tuple[int, int], text: str
) -> None:
    assert texts.points(Tally("", *now), Tally("", *before)) == text


# Unit tests.


def report_with_unit(shop: Shop, unit: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    output = tmp_path / "both.json"
    words = ["report", str(shop.data), "--root", str(shop.root), "--unit", str(unit)]
    assert cli.main([*words, "--report", f"json:{output}", *more]) == 0
    data: dict[str, Any] = json.loads(output.read_text())
    return data


def test_unit_tests(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = shop.unit(tmp_path / "unit.out")
    data = report_with_unit(shop, unit, tmp_path, "--report", "term", "--report", "markdown:-")
    assert data["run_by"] == {
        "example.com/lib": {"both": 0, "e2e": 4, "unit": 0, "neither": 3},
        "example.com/shop": {"both": 0, "e2e": 3, "unit": 0, "neither": 1},
        "example.com/shop/api": {"both": 1, "e2e": 2, "unit": 2, "neither": 1},
        "TOTAL": {"both": 1, "e2e": 9, "unit": 2, "neither": 5},
    }
    assert data["total"] == {"statements": 17, "covered": 12, "percent": "70.6"}
    assert data["problems"] == [{
        "kind": "two modes", "name": "counter modes", "reason": "set and atomic are mixed",
    }] or data["problems"] == []  # fmt: skip
    said = capsys.readouterr().out
    assert re.search(r"^example\.com/shop/api +1 +2 +2 +1$", said, re.M)
    assert "| **Total** | **1** | **9** | **2** | **5** |" in said
    less = report_with_unit(shop, unit, tmp_path, "--exclude", "generated", "--exclude", "lib")
    assert less["run_by"]["TOTAL"] == {"both": 1, "e2e": 4, "unit": 2, "neither": 1}


def test_unit_tests_as_a_directory(shop: Shop, tmp_path: Path) -> None:
    data = report_with_unit(shop, shop.other, tmp_path)
    assert data["run_by"]["example.com/shop"] == {"both": 2, "e2e": 1, "unit": 1, "neither": 0}


def test_unit_tests_of_other_source(shop: Shop, tmp_path: Path) -> None:
    api = shop.root / "shop/api/api.go"
    api.write_text("\n" + api.read_text())
    unit = shop.unit(tmp_path / "unit.out")
    data = report_with_unit(shop, unit, tmp_path)
    assert {
        "kind": "two builds",
        "name": "example.com/shop/api/api.go",
        "reason": "unit tests and E2E tests ran different source of it",
    } in data["problems"]


def test_no_unit_tests(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", str(shop.data), "--root", str(shop.root)]
    assert cli.main([*words, "--unit", str(tmp_path / "nowhere.out")]) == 1
    assert "no coverage data of unit tests" in capsys.readouterr().err
