"""Which tests a change can affect: who ran what, held against what differs from the recorded run.

A test is left out only if the record is of a whole and consistent run, the test passed in it, and
nothing that it ran, and nothing that all tests stand on, is another now. In doubt, it runs.

What a change of a file means:

- Go: the tests that ran a function whose own code changed. All tests, if the function also ran
  outside of tests (start, background, fixtures that tests share), if nobody knows who ran it, or if
  more than bodies of functions changed: see `report.gosource`. Comments and layout: no test.
- A file of tests: its own tests; of a Go package's tests: those of its directory.
- Documentation that nothing names: no test.
- All else (manifests, `go.mod`, a conftest, a helper): all tests.

Not seen: what is in no file of the repository (versions of Go and Kind, images, the environment),
and files that git ignores, unless Go compiles or embeds them. Not known: that a test needs what
another one left in the service. Code that does not compile is for `go vet` to find.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.report import datafile, gosource, inputs, runfile, sources, tree
from pytest_kindcov.report.texts import counted, shown
from pytest_kindcov.report.why import Kind, origin

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pytest_kindcov.covdata.model import Meta
    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.report.make import Run
    from pytest_kindcov.report.tree import Changed

UNKNOWN = "not in the record"
"""Why a test runs of which the recorded run knows nothing."""
_DOCUMENTS = (".md", ".rst", ".adoc")
_IMPORTING = ("*.py", "*.ini", "*.toml", "*.cfg")
_TESTS = re.compile(r"(test_.*|.*_test)\.py")
_LITERAL = re.compile(rb'"([^"\n\\]+)"')
_SHOWN = 3  # reasons of a kind
# All there is for a container that lost nothing: `harvest.run`, `harvest.verdict`.
_WHOLE = ("ok", "no-handler")


@dataclass(frozen=True)
class Plan:
    """Which tests of a recorded run need not run again.

    Args:
        ref: since when.
        everything: why all tests run; empty if some need not.
        run: tests of the record that run, and why.
        leave: tests that need not.
        notes: what changed and concerns no test.

    """

    ref: str
    everything: tuple[str, ...] = ()
    run: Mapping[str, str] = field(default_factory=dict)
    leave: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As text, for the way to the workers."""
        return json.dumps({**asdict(self), "leave": sorted(self.leave)})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` wrote."""
        value = json.loads(text)
        return cls(
            value["ref"],
            tuple(value["everything"]),
            value["run"],
            frozenset(value["leave"]),
            tuple(value["notes"]),
        )


class _Doubt(Exception):
    """All tests must run; the text says why."""


def plan(
    directory: Path, root: Path, ref: str, failed: Collection[str] = (), below: Path | None = None
) -> Plan:
    """Say which tests a change can affect.

    Args:
        directory: what the recorded run left.
        root: of the repository, or a directory in it.
        ref: a commit: what changed since the branch left it counts too.
        failed: tests that failed since the recorded run.
        below: pytest's root directory, if the record must be of it.

    """
    try:
        run = _usable(directory)
        assert run.tree is not None
        top = sources.top(root)
        if below is not None and (top / run.tree.below).resolve() != below.resolve():
            raise _Doubt(f"the recorded run's root directory was {shown(run.tree.below)}")
        own = sources.repository(top / run.tree.below)
        changed = tree.changed(run.tree, run.recorded, own, ref)
        with datafile.opened(datafile.find(directory)) as connection:
            record = _Record(run, own, connection, _metas(directory))
            everything, chosen, notes = record.judge(changed)
    except CoverageDataError as error:
        return Plan(ref, (error.headline,))
    except (_Doubt, tree.Unknown) as doubt:
        return Plan(ref, (str(doubt),))
    for name, how in run.tests.items():
        if how != "passed":
            chosen[name] = f"{how} in the recorded run" if how else "did not end"
        elif name in failed:
            chosen[name] = "failed since the recorded run"
        elif name not in record.tests:
            chosen.setdefault(name, "ran nothing that is known")
    leave = frozenset() if everything else frozenset(run.tests) - chosen.keys()
    return Plan(ref, tuple(everything), chosen, leave, tuple(notes))


def _usable(directory: Path) -> Run:
    """What is known of the recorded run.

    Raises:
        CoverageDataError: there is none.
        _Doubt: it says too little.

    """
    data = datafile.find(directory)
    run = runfile.read(directory)
    if run.issues:
        issue = run.issues[0]
        raise _Doubt("the recorded run has a problem: " + f"{issue.name} {issue.reason}".strip())
    if not run.tests or run.tree is None:
        raise _Doubt("the record does not say of which commit and tests it is")
    with datafile.opened(data) as connection:
        (when,) = connection.execute("SELECT time FROM kindcov_run").fetchone()
    if when != run.data_time:
        raise _Doubt(f"{shown(str(data))} and {runfile.NAME} are of different runs")
    for one in run.containers:
        if one.loses or one.verdict not in _WHOLE:
            raise _Doubt(f"in the recorded run, {one.name} was {one.verdict}: not all is known")
    return run


def _metas(directory: Path) -> list[Meta]:
    """The programs that were recorded.

    Raises:
        _Doubt: they cannot tell who ran what.

    """
    from pytest_kindcov.covdata import store
    from pytest_kindcov.covdata.model import Mode

    found = store.read([directory / inputs.COVDATA])
    problems = [problem for problem in found.problems if problem.kind is not store.Kind.IDLE]
    if problems:
        raise _Doubt(f"the recorded run has a problem: {problems[0]}")
    if not found.programs:
        raise _Doubt("the recorded run has no coverage data")
    metas = [program.meta for program in found.programs]
    if any(meta.mode not in (Mode.COUNT, Mode.ATOMIC) for meta in metas):
        raise _Doubt("a service was built with -covermode=set: who runs what again is not seen")
    return metas


class _Record:
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
            except _Doubt as doubt:
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
            _Doubt: all.

        """
        path = PurePosixPath(file.path)
        tested = path.name.endswith("_test.go")
        if path.suffix == ".go" and not tested and "testdata" not in path.parts:
            return self._of_go(file)
        if file.path in self._run.recorded:  # a program embeds it, or C
            raise _Doubt("changed, and a program has it")
        if tested and "testdata" not in path.parts:
            return self._of_files(lambda own: own.parent == path.parent, path)
        if _TESTS.fullmatch(path.name):
            if others := tree.naming(self._own.root, [path.stem], *_IMPORTING) - {file.path}:
                raise _Doubt(f"a changed file of tests, which {shown(min(others))} names")
            return self._of_files(lambda own: own == path, path)
        if path.suffix in _DOCUMENTS:
            # By its name, by a pattern, or with the directory that it is in.
            words = [path.name, f"*{path.suffix}", "COPY .", "ADD ."]
            words += [f"{directory}/" for directory in path.parts[:-1]]
            ends = [f":!*{suffix}" for suffix in _DOCUMENTS]
            others = tree.naming(self._own.root, words, ".", *ends, whole=False)
            if not others:
                return {}
            raise _Doubt(f"changed, and {shown(min(others))} may name it")
        raise _Doubt("changed" if file.now is not None else "is gone")

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
            raise _Doubt("is gone")
        names: set[str] = set()
        for before in file.before:
            if before is None:
                known = file.path in self._run.recorded
                raise _Doubt("changed, and what it was is not known" if known else "is new")
            change = gosource.compare(before, file.now)
            if change.reason:
                raise _Doubt(change.reason)
            names |= change.functions
        if not names:
            return {}
        if file.recorded is None:
            raise _Doubt("what was built of it is not known")
        found: dict[str, str] = {}
        for name, function in sorted(gosource.read(file.recorded).functions.items()):
            if name in names:
                for test in self._who(file, name, function):
                    found.setdefault(test, f"ran {name} ({shown(file.path)})")
        return found

    def _who(self, file: Changed, name: str, function: gosource.Function) -> set[str]:
        """The tests that ran a function, as it was recorded.

        Raises:
            _Doubt: not only tests did, or that is not known.

        """
        mask = (1 << (function.last + 1)) - (1 << function.first)
        files = [one for one in self._files.get(file.path, []) if one[2] & mask]
        if not files:
            raise _Doubt(f"{name} changed, and who ran it is not known")
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
                        raise _Doubt(f"{name} changed, which ran outside of tests ({where})")
                    found.add(test)
        return found

    def _must_cover(self, package: str) -> None:
        """That no program has a package without saying what ran of it."""
        for meta in self._metas:
            covers = any(one.path == package for one in meta.packages)
            if not covers and self._linked(meta, package):
                main = next((one.path for one in meta.packages if one.name == "main"), "a program")
                raise _Doubt(f"{main} was built without coverage of {package}")

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


def last_failed(root: Path) -> set[str]:
    """The tests that failed when pytest ran last, by its own cache; none if it is not there."""
    try:
        return set(json.loads((root / ".pytest_cache/v/cache/lastfailed").read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()


def describe(found: Plan) -> list[str]:
    """A plan in some lines: what changed, what runs, and why."""
    if found.everything:
        reasons = list(found.everything)
        more = (
            [f"and {counted(len(reasons) - _SHOWN, 'more reason')}"]
            if len(reasons) > _SHOWN
            else []
        )
        return ["all tests run:", *(f"  {reason}" for reason in reasons[:_SHOWN] + more)]
    total = len(found.run) + len(found.leave)
    lines = [
        f"since {shown(found.ref)}: {len(found.leave)} of the record's {counted(total, 'test')}"
        " left out: they passed, and nothing that they ran has changed"
    ]
    rules: dict[str, int] = {}
    for why in found.run.values():
        rules[why] = rules.get(why, 0) + 1
    lines += [f"  {counted(number, 'test')}: {why}" for why, number in sorted(rules.items())]
    if found.notes:
        lines.append(
            f"  no test: {', '.join(found.notes[:_SHOWN])}"
            + ("…" if len(found.notes) > _SHOWN else "")
        )
    return lines


def run(ref: str, data: str, tests: str) -> int:
    """Print the node ids of the tests that a change can affect; on standard error, why.

    Args:
        ref: a commit.
        data: directory of the recorded run.
        tests: file of the node ids there are, one a line, `-` for standard input; those of them are
            printed that are to run. "": those of the record.

    Returns:
        The exit code, 0.

    Raises:
        CoverageDataError: there is no record.

    """
    directory = Path(data)
    datafile.find(directory)
    recorded = runfile.read(directory)
    below = sources.top(Path.cwd()) / (recorded.tree.below if recorded.tree else ".")
    found = plan(directory, Path.cwd(), ref, last_failed(below))
    for line in describe(found):
        print(f"kindcov: {line}", file=sys.stderr)
    if tests:
        text = sys.stdin.read() if tests == "-" else Path(tests).read_text()
        names = [line for line in text.splitlines() if line.strip()]
    else:
        names = sorted(recorded.tests)
        print(
            "kindcov: tests that the record does not know must run too: see --tests",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(
        "".join(f"{name}\n" for name in names if name not in found.leave).encode()
    )
    sys.stdout.buffer.flush()
    return 0
