"""Real programs with coverage, their data, and what Go's own tool says of them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import profile, store

if TYPE_CHECKING:
    from pytest_kindcov.covdata.profile import Profile

PROGRAMS = Path(__file__).parents[1] / "programs"
MIX = PROGRAMS / "mix"


@dataclass(frozen=True)
class Go:
    """A Go toolchain; the one on PATH unless a root is given."""

    root: str = ""

    @property
    def command(self) -> str:
        return f"{self.root}/bin/go" if self.root else "go"

    @property
    def environment(self) -> dict[str, str]:
        own = {"GOROOT": self.root} if self.root else {}
        return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", **own}

    def build(
        self, source: Path, output: Path, *flags: str, package: str = ".", cgo: str = "0"
    ) -> Path:
        command = [self.command, "build", "-cover", *flags, "-o", str(output), package]
        environment = {**self.environment, "CGO_ENABLED": cgo}
        done = subprocess.run(
            command, cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return output

    def covdata(self, action: str, *directories: Path, output: Path | None = None) -> str:
        """What `go tool covdata ACTION` says."""
        inputs = "-i=" + ",".join(map(str, directories))
        more = [f"-o={output}"] if output else []
        done = subprocess.run(
            [self.command, "tool", "covdata", action, inputs, *more],
            env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return output.read_text() if output else done.stdout

    def textfmt(self, scratch: Path, *directories: Path) -> list[str]:
        """The lines of the text profile, sorted."""
        return sorted(self.covdata("textfmt", *directories, output=scratch / "go.out").splitlines())

    def percent(self, *directories: Path) -> dict[str, str]:
        """By package that has statements."""
        text = self.covdata("percent", *directories)
        return dict(re.findall(r"(\S+)\t+coverage: (\S+)% of statements", text))

    def func(self, *directories: Path) -> list[tuple[str, str, str]]:
        """File and line, function, percentage; the total last; sorted."""
        rows = re.findall(r"^(\S+?):?\s+(\S+)\s+(\S+)%$", self.covdata("func", *directories), re.M)
        return sorted(rows)


def run(program: Path, directory: Path, *arguments: str) -> None:
    directory.mkdir(exist_ok=True, parents=True)
    subprocess.run(
        [program, *arguments],
        env={**os.environ, "GOCOVERDIR": str(directory)},
        check=True,
        capture_output=True,
    )


def same_as_go(scratch: Path, *directories: Path, go: Go | None = None) -> Profile:
    """Lines, percentages by package, percentages by function, and the total."""
    go = go or Go()
    data = store.read(directories)
    assert data.problems == []
    own = data.profile()
    assert own is not None
    assert sorted(profile.write(own).decode().splitlines()) == go.textfmt(scratch, *directories)
    assert {
        package: f"{100 * ran / statements:.1f}"
        for package, statements, ran in own.by_package()
        if statements
    } == go.percent(*directories)
    functions = own.by_function()
    rows = [
        (f"{file.path}:{line}", name, f"{100 * ran / max(statements, 1):.1f}")
        for file, line, (name, literal), statements, ran in functions
        if not literal
    ]
    statements = sum(row[3] for row in functions)
    total = ("total", "(statements)", f"{100 * sum(row[4] for row in functions) / statements:.1f}")
    assert sorted([*rows, total]) == go.func(*directories)
    return own
