"""The same units and counts as Go's own tool, over real programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gocover import MIX, Go, run, same_as_go

from pytest_kindcov import cli, covdata
from pytest_kindcov.covdata import counters, meta, profile, store
from pytest_kindcov.covdata.model import Mode, merge, subtract

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ["set", "count", "atomic"]


@pytest.mark.parametrize("mode", MODES)
def test_as_go_has_it(mode: str, mix: Callable[[str], Path], tmp_path: Path) -> None:
    own = same_as_go(tmp_path, mix(mode))
    # Not only the same lines: the same order.
    assert profile.write(own).decode() == (tmp_path / "go.out").read_text()


def test_two_programs_of_one_source(mix: Callable[[str], Path], tmp_path: Path) -> None:
    """A package that both have is one: its counts are added up."""
    flags = "-covermode=count", "-coverpkg=example.com/mix/shapes,example.com/mix/cmd/other"
    program = Go().build(MIX, tmp_path / "other", *flags, package="./cmd/other")
    run(program, tmp_path / "data")
    data = store.read([mix("count"), tmp_path / "data"])
    assert len(data.programs) == 2
    own = same_as_go(tmp_path, mix("count"), tmp_path / "data")
    assert len(own) < sum(len(program.meta) for program in data.programs)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_written_go_reads(mode: str, mix: Callable[[str], Path], tmp_path: Path) -> None:
    data = mix(mode)
    assert cli.main(["report", str(data), "--report", f"covdata:{tmp_path}/merged"]) == 0
    assert len(list((tmp_path / "merged").iterdir())) == 2
    assert Go().textfmt(tmp_path, tmp_path / "merged") == Go().textfmt(tmp_path, data)
    (program,) = store.read([data]).programs
    assert meta.write(program.meta) == program.raw
    for flavor, big_endian in ((counters.RAW, False), (counters.RAW, True), (counters.ULEB, False)):
        other = tmp_path / f"{flavor}{big_endian}"
        other.mkdir()
        (other / f"covmeta.{program.hash}").write_bytes(meta.write(program.meta))
        segment = counters.Segment(program.counters, {"argc": "1", "argv0": "a" * 200})
        written = counters.write(program.meta, [segment], flavor=flavor, big_endian=big_endian)
        (other / counters.file_name(program.meta.hash, 1, 2)).write_bytes(written)
        assert Go().textfmt(tmp_path, other) == Go().textfmt(tmp_path, data)


def test_byte_for_byte_as_the_runtime_writes_it(mix: Callable[[str], Path]) -> None:
    """But for the order of functions and strings, a file that is read and written is the same."""
    (program,) = store.read([mix("atomic")]).programs
    files = sorted(mix("atomic").glob("covcounters.*"))
    segments = []
    for file in files:
        (segment,) = counters.read(file.read_bytes(), program.meta)
        assert segment.arguments["GOOS"] == "linux"
        assert int(segment.arguments["argc"]) >= 2
        assert len(counters.write(program.meta, [segment])) == file.stat().st_size
        segments.append(segment)
    assert (merge(Mode.ATOMIC, [s.counters for s in segments]) == program.counters).all()
    difference = subtract(segments[1].counters, segments[0].counters)
    assert program.meta.covered_statements(difference)


def test_the_example(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "orders"
    program = Go().build(example, tmp_path / "orders", "-coverpkg=./...", package="./cmd/orders")
    (tmp_path / "data").mkdir()
    process = subprocess.Popen(
        [program], env={"GOCOVERDIR": str(tmp_path / "data"), "PORT": "0", "ADDR": "127.0.0.1:0"}
    )
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(10)
    assert store.read([tmp_path / "data"]).programs[0].files == 1
    same_as_go(tmp_path, tmp_path / "data")


def test_report_types(
    mix: Callable[[str], Path], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    destination = tmp_path / "report.json"
    argv = ["report", str(mix("count")), "--report", "term", "--report", f"json:{destination}"]
    assert cli.main([*argv, "--report", "go:-"]) == 0
    out = capsysbinary.readouterr().out.decode()
    assert "TOTAL" in out
    assert sorted(out[out.index("mode: ") :].splitlines()) == Go().textfmt(tmp_path, mix("count"))
    report = json.loads(destination.read_text())
    assert report["programs"][0]["counter_files"] == 4
    assert report["problems"] == []
    packages = {name: figures["percent"] for name, figures in report["packages"].items()}
    assert packages == Go().percent(mix("count"))


def test_as_a_script(mix: Callable[[str], Path]) -> None:
    command = [sys.executable, "-m", "pytest_kindcov", "report", str(mix("set"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "example.com/mix/shapes" in done.stdout


def test_bad_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 1
    assert cli.main(["report", str(tmp_path / "missing")]) == 1
    said = capsys.readouterr().err
    assert "no coverage data" in said
    assert "No such file or directory" in said
    for argv in (
        ["report", "--patch-under", "80"],
        ["report", ".", "--fail-under", "101"],
        ["report", ".", "--report", "pdf"],
        [],
    ):
        with pytest.raises(SystemExit):
            cli.main(argv)


def test_a_report_that_cannot_be_written(
    mix: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(mix("set")), "--report", "go:/dev/null/x"]) == 1
    assert "/dev/null/x: " in capsys.readouterr().err
    assert cli.main(["report", str(mix("set")), "--report", "covdata:-"]) == 1


def test_unit_test_profiles_join(mix: Callable[[str], Path], tmp_path: Path) -> None:
    """The text profile of the same source adds to the same blocks, whichever comes first."""
    text = tmp_path / "unit.out"
    subprocess.run([sys.executable, "-m", "pytest_kindcov", "report", mix("atomic"), "--report",
                    f"go:{text}"], check=True)  # fmt: skip
    alone = store.read([mix("atomic")]).profile()
    assert alone is not None
    for paths in ([mix("atomic"), text], [text, mix("atomic")]):
        both = store.read(paths).profile()
        assert both is not None
        assert len(both) == len(alone)
        assert (both.counts == 2 * alone.counts).all()
        assert both.by_package() == [tuple(row) for row in alone.by_package()]
        assert [row[2] for row in both.by_function()] == [row[2] for row in alone.by_function()]


def test_the_example_of_its_documentation(
    mix: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "covdata").symlink_to(mix("count"))
    monkeypatch.chdir(tmp_path)
    text = str(covdata.__doc__)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(text[text.index("    from") : text.index("\nFrom top")]), names)
    assert "example.com/mix/shapes 11 " in capsys.readouterr().out
    assert Path("coverage.out").read_text().startswith("mode: count\nexample.com/mix/")
    assert len(list(Path("merged").iterdir())) == 2
    assert names["ran"].shape[1] == 5
    modules = {path.stem for path in Path(str(covdata.__file__)).parent.glob("[a-z]*.py")}
    assert modules == set(re.findall(r"^    (\w+)   ", text, re.M)) | {"records", "uleb"}


def test_imports_nothing_but_numpy() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules);"
        "import pytest_kindcov.covdata.store, pytest_kindcov.covdata.memory,"
        " pytest_kindcov.covdata.paths;"
        "print({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'pytest_kindcov'}"
