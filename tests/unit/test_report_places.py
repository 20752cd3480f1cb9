"""Where reports go, whole or not at all, and what `kindcov report` says of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov import cli, options
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import make, place, runfile, sources, types

if TYPE_CHECKING:
    from shop import Shop

    from pytest_kindcov.report.model import Report


@pytest.fixture
def report(shop: Shop) -> Report:
    made = make.report(stores.read([shop.data]), sources.repository(shop.root), make.Run())
    assert made is not None
    return made


@pytest.fixture
def left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository after a run of pytest, which left its directory."""
    shutil.copytree(shop.data, shop.root / ".kindcov/covdata")
    runfile.write(shop.root / ".kindcov", make.Run(time=1.0, title="a run"))
    monkeypatch.chdir(shop.root)
    return shop.root


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# Destinations.


def test_reports_of_a_run_go_into_its_directory(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(left)
    every = [
        word for name in types.TYPES if name != "markdown-append" for word in ("--report", name)
    ]
    assert cli.main(["report", *every]) == 0
    assert names(left) == before
    assert names(left / ".kindcov") == {
        "run.json", "covdata", "html", "coverage.xml", "coverage.lcov", "coverage.json",
        "coverage.md", "coverage.out",
    }  # fmt: skip
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        "wrote .kindcov/coverage.xml, .kindcov/coverage.lcov, .kindcov/coverage.json,"
        " .kindcov/coverage.md, .kindcov/coverage.out and .kindcov/html/index.html"
    )
    # Its own coverage files are there already: they are neither doubled nor counted twice.
    assert cli.main(["report", "--report", "term"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["TOTAL", "17", "7", "58.8%"]


def test_reports_of_other_data_go_here(shop: Shop, left: Path) -> None:
    before = names(left)
    assert cli.main(["report", str(shop.data), "--report", "xml"]) == 0
    assert cli.main(["report", ".kindcov", str(shop.data), "--report", "lcov"]) == 0
    assert names(left) - before == {"coverage.xml", "coverage.lcov"}


def test_what_is_said_never_stands_in_a_report(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--report", "json:-", "--report", "xml", "--fail-under", "99"]
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["passed"] is False
    assert said.err.splitlines() == ["FAIL total 58.8% < 99%", "wrote .kindcov/coverage.xml"]


def test_all_types_are_in_the_help() -> None:
    (option,) = (option for option in options.OPTIONS if option.name == "report")
    words = option.help.partition(":")[2].partition(";")[0].split(",")
    assert {word.strip() for word in words} == set(types.TYPES)


# Whole or not at all.


def test_no_partial_file_is_left(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "coverage.xml"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KindCovError, match=r"coverage\.xml: No space left"):
        types.emit(types.parse(f"xml:{target}"), report, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["coverage.xml"]
    assert target.read_text() == "old"


def test_full_disk(report: Report, tmp_path: Path) -> None:
    """Every type, in a process that may write no file of more than 100 bytes."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from pytest_kindcov import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    assert report.store is not None
    data = str(Path(report.store.programs[0].source).parent)
    for name, kind in types.TYPES.items():
        if kind.appends:
            continue
        out = tmp_path / name
        out.mkdir()
        target = out / (kind.destination if kind.destination != types.STDOUT else "term.txt")
        words = ["report", data, "--root", str(report.root), "--report", f"{name}:{target}"]
        done = subprocess.run(
            [sys.executable, "-B", "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("cannot be written")) == (1, 1), done.stderr
        assert "Traceback" not in done.stderr
        assert names(out) == set(), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """In the midst of many pages: the earlier report is whole, and nothing lies beside it."""
    profile = tmp_path / "big.out"
    blocks = (
        f"m/p{n // 20}/f{n}.go:{i}.1,{i}.9 1 {i % 2}\n" for n in range(4_000) for i in range(1, 9)
    )
    profile.write_text("mode: set\n" + "".join(blocks))
    small = tmp_path / "small.out"
    small.write_text("mode: set\nm/p/f.go:1.1,1.9 1 1\n")
    target = tmp_path / "out" / "html"
    words = ["report", "--root", str(tmp_path), "--report", f"html:{target}"]
    assert cli.main([*words, str(small)]) == 0
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_kindcov", *words, str(profile)],
        stderr=subprocess.PIPE,
        # A shell ignores it in what it runs in the background, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 (one thread)
    ) as process:
        while not list(target.parent.glob(".kindcov-*/kindcov/*.html")):
            assert process.poll() is None, process.stderr
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")
    assert names(target.parent) == {"html"}
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_pages_are_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks meanwhile sees the old pages or the new ones; those of others stay."""
    target = tmp_path / "html"
    (target / "kindcov").mkdir(parents=True)
    (target / "kindcov/old.html").touch()
    (target / "other.txt").touch()
    seen: list[set[str]] = []

    def look(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and (target / "kindcov").is_dir():
            seen.append(names(target / "kindcov"))

    def write(partial: Path) -> None:
        (partial / "kindcov").mkdir()
        for number in range(3):
            (partial / "kindcov" / f"{number}.html").touch()
        (partial / "index.html").touch()
        sys.setprofile(look)

    try:
        place.directory(target, write, "kindcov")
    finally:
        sys.setprofile(None)
    new = {"0.html", "1.html", "2.html"}
    assert seen
    assert [now for now in seen if now not in ({"old.html"}, new)] == []
    assert names(target) == {"kindcov", "other.txt", "index.html"}
    assert names(target / "kindcov") == new


def test_a_link_and_a_device(report: Report, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.xml").symlink_to("real/coverage.xml")
    types.emit(types.parse(f"xml:{tmp_path / 'link.xml'}"), report, tmp_path)
    assert (tmp_path / "link.xml").is_symlink()
    assert (tmp_path / "real/coverage.xml").read_bytes().startswith(b"<?xml")
    types.emit(types.parse(f"xml:{os.devnull}"), report, tmp_path)
    assert not Path(os.devnull).is_file()
