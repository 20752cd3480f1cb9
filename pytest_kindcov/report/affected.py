"""What a recorded run knows: the tests that a changed file concerns. See `select`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_kindcov.report import datafile, gosource, inputs, runfile, tree
from pytest_kindcov.report.texts import shown
from pytest_kindcov.report.why import Kind, origin

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_kindcov.covdata.model import Meta
    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.report.make import Run
    from pytest_kindcov.report.tree import Changed

_DOCUMENTS = (".md", ".rst", ".adoc")
_IMPORTING = ("*.py", "*.ini", "*.toml", "*.cfg")
_TESTS = re.compile(r"(test_.*|.*_test)\.py")
_LITERAL = re.compile(rb'"([^"\n\\]+)"')
# All there is for a container that lost nothing: `harvest.run`, `harvest.verdict`.
_WHOLE = ("ok", "no-handler")


class Doubt(Exception):
    """All tests must run; the text says why."""


def usable(directory: Path) -> Run:
    """What is known of the recorded run.

    Raises:
        CoverageDataError: there is none.
        Doubt: it says too little.

    """
    data = datafile.find(directory)
    run = runfile.read(directory)
    if run.issues:
        issue = run.issues[0]
        raise Doubt("the recorded run has a problem: " + f"{issue.name} {issue.reason}".strip())
    if not run.tests or run.tree is None:
        raise Doubt("the record does not say of which commit and tests it is")
    with datafile.opened(data) as connection:
        (when,) = connection.execute("SELECT time FROM kindcov_run").fetchone()
    if when != run.data_time:
        raise Doubt(f"{shown(str(data))} and {runfile.NAME} are of different runs")
    for one in run.containers:
        if one.loses or one.verdict not in _WHOLE:
            raise Doubt(f"in the recorded run, {one.name} was {one.verdict}: not all is known")
    return run


def metas(directory: Path) -> list[Meta]:
    """The programs that were recorded.

    Raises:
        Doubt: they cannot tell who ran what.

    """
    from pytest_kindcov.covdata import store
    from pytest_kindcov.covdata.model import Mode

    found = store.read([directory / inputs.COVDATA])
    problems = [problem for problem in found.problems if problem.kind is not store.Kind.IDLE]
    if problems:
        raise Doubt(f"the recorded run has a problem: {problems[0]}")
    if not found.programs:
        raise Doubt("the recorded run has no coverage data")
    metas = [program.meta for program in found.programs]
    if any(meta.mode not in (Mode.COUNT, Mode.ATOMIC) for meta in metas):
        raise Doubt("a service was built with -covermode=set: who runs what again is not seen")
    return metas


class Record:
    """A recorded run, to be asked who ran what.

    Args:
        run: what is known of it.
        own: the repository.
        connection: its data file.
        metas: its programs.

    """

    def __init__(
        self, run: Run, own: Repository, connection: sqlite3.Connection, metas: list[Meta]
    ) -> None:
        self._run = run
        self._own = own
        self._connection = connection
        self._metas = metas
        self._files: dict[str, list[tuple[int, str, int]]] = {}
        for number, name, numbits in connection.execute(
            "SELECT file_id, name, numbits FROM kindcov_file"
        ):
            path = own.locate(name) if name else None
            if path:
                self._files.setdefault(path, []).append((number, name, datafile.bits(numbits)))
        self._contexts = dict(connection.execute("SELECT id, context FROM context").fetchall())
        self.tests = {test for _, test in map(origin, self._contexts.values()) if test}
        self._links: dict[tuple[bytes, str], bool] = {}

    def judge(self, changed: Iterable[Changed]) -> tuple[list[str], dict[str, str], list[str]]:
        """Why all tests must run; tests that must, and why; what concerns no test."""
        everything: list[str] = []
        chosen: dict[str, str] = {}
        notes: list[str] = []
        for file in changed:
            try:
                found = self._affected(file)
            except Doubt as doubt:
                everything.append(f"{shown(file.path)}: {doubt}")
            else:
                for test, why in found.items():
                    chosen.setdefault(test, why)
                if not found:
                    notes.append(shown(file.path))
        return everything, chosen, notes

    def _affected(self, file: Changed) -> dict[str, str]:
        """The tests that a changed file concerns, and why.

        Raises:
            Doubt: all.

        """
        path = PurePosixPath(file.path)
        tested = path.name.endswith("_test.go")
        if path.suffix == ".go" and not tested and "testdata" not in path.parts:
            return self._of_go(file)
        if file.path in self._run.recorded:  # a program embeds it, or C
            raise Doubt("changed, and a program has it")
        if tested and "testdata" not in path.parts:
            return self._of_files(lambda own: own.parent == path.parent, path)
        if _TESTS.fullmatch(path.name):
            if others := tree.naming(self._own.root, [path.stem], *_IMPORTING) - {file.path}:
                raise Doubt(f"a changed file of tests, which {shown(min(others))} names")
            return self._of_files(lambda own: own == path, path)
        if path.suffix in _DOCUMENTS:
            # By its name, by a pattern, or with the directory that it is in.
            words = [path.name, f"*{path.suffix}", "COPY .", "ADD ."]
            words += [f"{directory}/" for directory in path.parts[:-1]]
            ends = [f":!*{suffix}" for suffix in _DOCUMENTS]
            others = tree.naming(self._own.root, words, ".", *ends, whole=False)
            if not others:
                return {}
            raise Doubt(f"changed, and {shown(min(others))} may name it")
        raise Doubt("changed" if file.now is not None else "is gone")

    def _of_files(
        self, wanted: Callable[[PurePosixPath], bool], path: PurePosixPath
    ) -> dict[str, str]:
        """The tests of some files, by their paths in the repository."""
        assert self._run.tree is not None
        below = PurePosixPath(self._run.tree.below)
        why = f"{shown(str(path))} changed"
        return {test: why for test in self._run.tests if wanted(below / test.partition("::")[0])}

    def _of_go(self, file: Changed) -> dict[str, str]:
        """The tests that ran functions of a Go file that changed."""
        if file.now is None:
            raise Doubt("is gone")
        names: set[str] = set()
        for before in file.before:
            if before is None:
                known = file.path in self._run.recorded
                raise Doubt("changed, and what it was is not known" if known else "is new")
            change = gosource.compare(before, file.now)
            if change.reason:
                raise Doubt(change.reason)
            names |= change.functions
        if not names:
            return {}
        if file.recorded is None:
            raise Doubt("what was built of it is not known")
        found: dict[str, str] = {}
        for name, function in sorted(gosource.read(file.recorded).functions.items()):
            if name in names:
                for test in self._who(file, name, function):
                    found.setdefault(test, f"ran {name} ({shown(file.path)})")
        return found

    def _who(self, file: Changed, name: str, function: gosource.Function) -> set[str]:
        """The tests that ran a function, as it was recorded.

        Raises:
            Doubt: not only tests did, or that is not known.

        """
        mask = (1 << (function.last + 1)) - (1 << function.first)
        files = [one for one in self._files.get(file.path, []) if one[2] & mask]
        if not files:
            raise Doubt(f"{name} changed, and who ran it is not known")
        for _, go_name, _ in files:
            self._must_cover(go_name.rpartition("/")[0])
        found = set()
        for number in {number for number, _, _ in files}:
            for context, numbits in self._connection.execute(
                "SELECT context_id, numbits FROM line_bits WHERE file_id = ?", (number,)
            ):
                if datafile.bits(numbits) & mask:
                    kind, test = origin(self._contexts[context])
                    if kind is Kind.OUTSIDE:
                        where = shown(self._contexts[context])
                        raise Doubt(f"{name} changed, which ran outside of tests ({where})")
                    found.add(test)
        return found

    def _must_cover(self, package: str) -> None:
        """That no program has a package without saying what ran of it."""
        for meta in self._metas:
            covers = any(one.path == package for one in meta.packages)
            if not covers and self._linked(meta, package):
                main = next((one.path for one in meta.packages if one.name == "main"), "a program")
                raise Doubt(f"{main} was built without coverage of {package}")

    def _linked(self, meta: Meta, package: str) -> bool:
        """Whether a program may have a package, by what its packages import."""
        key = meta.hash, package
        if key not in self._links:
            seen: set[str] = set()
            left = [one.path for one in meta.packages if one.name == "main"]
            unknown = not left or any(self._directory(path) is None for path in left)
            while left:
                path = left.pop()
                if path not in seen:
                    seen.add(path)
                    left += self._imports(path)
            self._links[key] = unknown or package in seen
        return self._links[key]

    def _imports(self, package: str) -> set[str]:
        """The repository's packages that a package names, in whatever string."""
        directory = self._directory(package)
        if directory is None:
            return set()
        literals = {
            literal.decode("utf-8", "replace")
            for file in directory.glob("*.go")
            if file.is_file()
            for literal in _LITERAL.findall(file.read_bytes())
        }
        return {name for name in literals if self._directory(name) is not None}

    def _directory(self, package: str) -> Path | None:
        """Where a package of the repository is; None if it is none."""
        modules = self._own.modules
        for up in (package, *map(str, PurePosixPath(package).parents)):
            if up in modules:
                return self._own.root / modules[up] / package.removeprefix(up).lstrip("/")
        return None
