"""A service of any size: its source, what Go says can be covered of it, and tests that ran it.

All files have the same functions, one after the other. What Go counts in such a function it said
itself: one of them is compiled and run, and its units are repeated, with the lines moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import hand
import numpy as np

from pytest_kindcov.covdata import counters as counter_files
from pytest_kindcov.covdata import meta as meta_files
from pytest_kindcov.covdata import profile, store
from pytest_kindcov.covdata.model import Granularity, Meta, Mode, Package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

FUNCTION = """
// Total%(number)d adds up the steps of a request, and refuses one that asks for none.
func Total%(number)d(request int) (int, error) {
	if request < 0 {
		return 0, errors.New("a request asks for something")
	}
	total := 0
	for step := 0; step < request; step++ {
		total += step
		if total > 1000 {
			break
		}
	}
	return total, nil
}
"""
HEAD = '// Package p is one of many.\npackage p\n\nimport "errors"\n'
MAIN = 'package main\n\nimport "example.com/m/p0"\n\nfunc main() { p.Total0(3) }\n'
MODULE = "example.com/m"
GO_MOD = f"module {MODULE}\n\ngo 1.21\n"
HASH = b"kindcov-bench-00"
IN_FILE, IN_PACKAGE = 12, 5
"""Functions of a file, files of a package: some 200 lines in a file."""


def sample(directory: Path) -> npt.NDArray[np.uint32]:
    """What Go counts in the first function of a file: uint32[E, 5], as `Meta.units`."""
    (directory / "p0").mkdir(parents=True)
    (directory / "go.mod").write_text(GO_MOD)
    (directory / "main.go").write_text(MAIN)
    (directory / "p0/f0.go").write_text(HEAD + FUNCTION % {"number": 0})
    program, data = directory / "program", directory / "data"
    data.mkdir()
    hand.call([*hand.BUILD, "-o", program, "."], directory, {"GOFLAGS": "-buildvcs=false"})
    hand.call([program], env={"GOCOVERDIR": str(data)})
    meta = store.read([data]).programs[0].meta
    (name,) = (n for n in range(meta.functions) if meta.strings[meta.function_name[n]] == "Total0")
    return meta.units[slice(*meta.function_units[name : name + 2])]


@dataclass(frozen=True, eq=False)
class Service:
    """A service.

    Args:
        each: uint32[E, 5], the units of a function.
        least: so many units, or some more, so that all files are alike.

    """

    each: npt.NDArray[np.uint32]
    least: int

    @property
    def files(self) -> int:
        """How many."""
        return -(-self.least // (len(self.each) * IN_FILE))

    @property
    def packages(self) -> int:
        """How many."""
        return -(-self.files // IN_PACKAGE)

    @property
    def functions(self) -> int:
        """How many."""
        return self.files * IN_FILE

    def place(self, file: int) -> str:
        """Where a file is in the module."""
        return f"p{file // IN_PACKAGE}/f{file}.go"

    def lay(self, root: Path) -> None:
        """Write the source."""
        root.mkdir(exist_ok=True)
        (root / "go.mod").write_text(GO_MOD)
        for file in range(self.files):
            target = root / self.place(file)
            target.parent.mkdir(exist_ok=True)
            numbers = range(file * IN_FILE, (file + 1) * IN_FILE)
            target.write_text(HEAD + "".join(FUNCTION % {"number": number} for number in numbers))

    @cached_property
    def meta(self) -> Meta:
        """What can be covered of it."""
        files, functions, size = self.files, self.functions, len(self.each)
        moved = np.zeros((IN_FILE, 1, 5), np.uint32)
        moved[:, 0, 0] = moved[:, 0, 2] = np.arange(IN_FILE) * FUNCTION.count("\n")
        of_file = (self.each + moved).reshape(-1, 5)
        strings: list[str] = []
        package_strings = [0]
        function_name = np.empty(functions, np.int32)
        function_file = np.empty(functions, np.int32)
        for package in range(self.packages):
            strings += ["p", f"{MODULE}/p{package}", MODULE]
            for file in range(package * IN_PACKAGE, min((package + 1) * IN_PACKAGE, files)):
                own = slice(file * IN_FILE, (file + 1) * IN_FILE)
                function_file[own] = len(strings)
                strings.append(f"{MODULE}/{self.place(file)}")
                function_name[own] = len(strings) + np.arange(IN_FILE)
                strings += [f"Total{number}" for number in range(own.start, own.stop)]
            package_strings.append(len(strings))
        edges = np.minimum(np.arange(self.packages + 1) * IN_PACKAGE * IN_FILE, functions)
        return Meta(
            hash=HASH,
            mode=Mode.ATOMIC,
            granularity=Granularity.BLOCK,
            packages=tuple(
                Package(f"{MODULE}/p{number}", "p", MODULE, HASH) for number in range(self.packages)
            ),
            package_functions=edges.astype(np.int32),
            strings=strings,
            package_strings=np.array(package_strings, np.int32),
            function_units=np.arange(0, (functions + 1) * size, size, dtype=np.int32),
            function_name=function_name,
            function_file=function_file,
            function_literal=np.zeros(functions, bool),
            units=np.tile(of_file, (files, 1)),
        )

    def vectors(
        self, tests: int, share: float = 0.1
    ) -> Iterator[tuple[str, dict[bytes, npt.NDArray[np.int32]]]]:
        """What every test ran: 1 % of all functions, and half of those of some packages.

        Args:
            tests: how many.
            share: of the packages that a test runs.

        """
        chance = np.random.default_rng(7)
        common = chance.random(self.functions) < 0.01
        for number in range(tests):
            own = (chance.random(self.packages) < share)[self.meta.function_package]
            ran = common | (own & (chance.random(self.functions) < 0.5))
            units = np.flatnonzero(np.repeat(ran, len(self.each))).astype(np.int32)
            name = f"tests/e2e/test_{number % 40}.py::TestSuite{number % 7}::test_{number}[value]"
            yield name, {HASH: units}

    def counters(self, tests: int) -> npt.NDArray[np.uint32]:
        """What so many tests counted: uint32[U]."""
        counted = self.meta.zeros()
        for _, ran in self.vectors(tests):
            counted[ran[HASH]] += np.uint32(1)
        return counted

    def data(self, directory: Path, counted: npt.NDArray[np.uint32]) -> None:
        """Write what a process leaves in its GOCOVERDIR."""
        directory.mkdir(parents=True)
        (directory / f"covmeta.{HASH.hex()}").write_bytes(meta_files.write(self.meta))
        name = counter_files.file_name(HASH, 1, 1)
        content = counter_files.write(self.meta, [counter_files.Segment(counted)])
        (directory / name).write_bytes(content)

    def profile(self, file: Path, counted: npt.NDArray[np.uint32]) -> None:
        """Write the same as Go's text profile."""
        file.write_bytes(profile.write(profile.from_counters(self.meta, counted)))
