"""Go test packages: compiled once, their tests and Ginkgo specs listed and run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov._run import run
from pytest_kindcov.errors import CommandError, SuiteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Seconds. Compiling what imports the Kubernetes client takes some minutes the first time.
_COMPILE = 900.0
_LIST = 120.0
_TEST = re.compile(r"^func (Test\w*|Example\w*|Fuzz\w*)\(", re.MULTILINE)
_RUN_SPECS = re.compile(r"^func (Test\w*)\([^{]*\{(?:(?!^\}).)*?\bRunSpecs\(", re.M | re.S)
_OUTCOME = re.compile(r"^--- (PASS|FAIL|SKIP): (\S+) \(", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One test function, or one Ginkgo spec.

    Args:
        name: of the function; or of the spec, with those of its containers.
        file: the source file it is in.
        line: there, counted from 1.
        entry: the test function to run for it.
        labels: Ginkgo's.
        group: name of what must run together with it, such as an Ordered container; else empty.

    """

    name: str
    file: Path
    line: int
    entry: str
    spec: str = ""
    """What Ginkgo matches a focus against: the suite's description and the name; else empty."""
    labels: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Result:
    """How a case went.

    Args:
        outcome: `passed`, `failed` or `skipped`.
        message: why it failed or was skipped.
        output: what it printed.

    """

    outcome: str
    message: str = ""
    output: str = ""


@dataclass
class Package:
    """A directory of Go tests.

    Args:
        directory: its path.
        flags: more flags for `go test -c`, such as `-tags=e2e`.
        scratch: directory for the compiled program.

    """

    directory: Path
    flags: tuple[str, ...]
    scratch: Path
    _cases: list[Case] | None = field(default=None, repr=False)

    @property
    def program(self) -> Path:
        """The compiled program; made by `compile`."""
        identity = json.dumps([str(self.directory), *self.flags]).encode()
        return self.scratch / f"{hashlib.sha256(identity).hexdigest()[:16]}.test"

    def compile(self) -> bool:
        """Compile the tests, once for all processes that ask at the same time.

        Never with coverage: it is the service's that is wanted, not the tests'.

        Returns:
            Whether there are any.

        Raises:
            SuiteError: with the compiler's whole output.

        """
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.program.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                command: list[str | Path] = [
                    "go",
                    "test",
                    "-c",
                    "-o",
                    self.program,
                    *self.flags,
                    ".",
                ]
                run(command, timeout=_COMPILE, cwd=self.directory, env=_without_cover())
            except CommandError as error:
                raise SuiteError(
                    f"the Go tests in {self.directory} cannot be compiled",
                    cause=error.output or error.cause,
                    remedy="try `go vet` there; build tags belong into kindcov_go_flags",
                    slug="go-tests-not-compiled",
                ) from error
        return self.program.exists()

    def cases(self) -> list[Case]:
        """All tests and specs, in the order in which they stand.

        Raises:
            SuiteError: they cannot be compiled or listed.

        """
        if self._cases is None:
            self._cases = list(self._listed()) if self.compile() else []
        return self._cases

    def run(
        self, cases: Sequence[Case], env: Mapping[str, str], timeout: float
    ) -> dict[str, Result]:
        """Run cases of one entry, together.

        Args:
            cases: all of one group, or one.
            env: is added to the environment.
            timeout: seconds.

        Returns:
            By name.

        Raises:
            SuiteError: the program did not end in time, or could not be started.

        """
        environment = {**os.environ, **env}
        environment.pop("GOCOVERDIR", None)
        if cases[0].spec:
            return self._run_specs(cases, environment, timeout)
        (case,) = cases
        command: list[str | Path] = [
            self.program,
            "-test.v",
            "-test.run",
            f"^{re.escape(case.name)}$",
        ]
        code, output = self._call(command, environment, timeout)
        found = {name: word for word, name in _OUTCOME.findall(output)}
        outcome = found.get(case.name, "FAIL" if code else "PASS")
        if code and outcome == "PASS":  # a goroutine, or TestMain, failed after it
            outcome = "FAIL"
        word = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}[outcome]
        reason = _reason(output) if word == "skipped" else ""
        return {case.name: Result(word, reason, output)}

    def _run_specs(
        self, cases: Sequence[Case], environment: dict[str, str], timeout: float
    ) -> dict[str, Result]:
        focus = "^(" + "|".join(re.escape(case.spec) for case in cases) + ")$"
        options = ["-ginkgo.no-color", "-ginkgo.v", f"-ginkgo.focus={focus}"]
        specs, output = self._ginkgo(cases[0].entry, options, environment, timeout)
        found = {}
        for case in cases:
            same = [spec for spec in specs if _text(spec) == case.name]
            ran = [spec for spec in same if spec.get("State") not in ("skipped", "pending")]
            spec = (ran or same or [{}])[0]
            found[case.name] = _spec_result(spec, specs, output)
        return found

    def _listed(self) -> Iterator[Case]:
        text = run(
            [self.program, "-test.list", ".*"],
            timeout=_LIST,
            cwd=self.directory,
            env=_without_cover(),
        ).text
        places: dict[str, tuple[Path, int]] = {}
        suites: set[str] = set()
        for file in sorted(self.directory.glob("*_test.go")):
            source = file.read_text("utf-8", "replace")
            suites |= set(_RUN_SPECS.findall(source)) if "onsi/ginkgo" in source else set()
            for match in _TEST.finditer(source):
                places[match[1]] = file, source.count("\n", 0, match.start()) + 1
        for name in text.split():
            if name in suites:
                yield from self._specs(name)
            elif name in places and not name.startswith("Fuzz"):
                file, line = places[name]
                yield Case(name, file, line, name)

    def _specs(self, entry: str) -> Iterator[Case]:
        specs, output = self._ginkgo(
            entry, ["-ginkgo.dry-run", "-ginkgo.seed=1"], _without_cover(), _LIST
        )
        if not specs:
            raise SuiteError(
                f"the Ginkgo specs of {entry} in {self.directory} cannot be listed",
                cause=output[-2000:],
                remedy="RunSpecs must be reached without a cluster: set-up belongs into"
                " BeforeSuite, which a dry run leaves out",
                slug="specs-not-listed",
            )
        its = [spec for spec in specs if spec.get("LeafNodeType") == "It"]
        # Ginkgo shuffles; pytest and its workers want one order.
        for spec in sorted(its, key=lambda spec: spec["LeafNodeLocation"]["LineNumber"]):
            where = spec["LeafNodeLocation"]
            labels = [*(spec.get("ContainerHierarchyLabels") or []), spec.get("LeafNodeLabels")]
            name = _text(spec)
            yield Case(
                name,
                Path(where["FileName"]),
                int(where["LineNumber"]),
                entry,
                f"{spec['suite']} {name}",
                tuple(dict.fromkeys(label for some in labels for label in some or [])),
                _ordered(spec),
            )

    def _ginkgo(
        self, entry: str, options: Sequence[str], environment: dict[str, str], timeout: float
    ) -> tuple[list[dict[str, Any]], str]:
        """Run the specs of an entry: their reports, and what was printed."""
        with tempfile.TemporaryDirectory(prefix="kindcov-ginkgo-") as directory:
            report = Path(directory, "report.json")
            command: list[str | Path] = [self.program, "-test.run", f"^{re.escape(entry)}$"]
            command += options
            command.append(f"-ginkgo.json-report={report}")
            _, output = self._call(command, environment, timeout)
            try:
                suites = json.loads(report.read_bytes())
            except (OSError, ValueError):
                return [], output
        specs = [
            {**spec, "suite": suite.get("SuiteDescription", "")}
            for suite in suites
            for spec in suite.get("SpecReports") or []
        ]
        return specs, output

    def _call(
        self, command: list[str | Path], environment: dict[str, str], timeout: float
    ) -> tuple[int, str]:
        """Exit code and output, both streams in their order."""
        merged = ["sh", "-c", 'exec "$@" 2>&1', "sh", *command]
        try:
            output = run(merged, timeout=timeout, cwd=self.directory, env=environment)
        except CommandError as error:
            if error.code is None:
                raise SuiteError(
                    f"{self.directory.name}: {command[2]} did not end within {timeout:.0f} s",
                    cause=error.output,
                    remedy="give it longer: kindcov_go_timeout",
                    slug="go-test-not-in-time",
                ) from error
            return error.code, error.output
        return 0, output.text


def _text(spec: dict[str, Any]) -> str:
    """A spec's name, as Ginkgo writes it: its containers' texts and its own."""
    texts = [*(spec.get("ContainerHierarchyTexts") or []), spec.get("LeafNodeText", "")]
    return " ".join(text for text in texts if text)


def _ordered(spec: dict[str, Any]) -> str:
    """The place of the outermost Ordered container of a spec; empty where there is none.

    Ginkgo's reports do not say it: it stands in the source, before the container's function.
    """
    for where in spec.get("ContainerHierarchyLocations") or []:
        file, line = Path(where["FileName"]), int(where["LineNumber"])
        if file.is_file():
            rest = file.read_text("utf-8", "replace").split("\n")[line - 1 :]
            if re.search(r"\bOrdered\b", "\n".join(rest).partition("func(")[0]):
                return f"{file}:{line}"
    return ""


def _spec_result(spec: dict[str, Any], specs: list[dict[str, Any]], output: str) -> Result:
    """How a spec went; one that never ran failed with what kept it from that."""
    state = spec.get("State", "")
    own = "\n".join(
        part
        for part in (spec.get("CapturedGinkgoWriterOutput"), spec.get("CapturedStdOutErr"))
        if part
    )
    if state == "passed":
        return Result("passed", "", own)
    broken = [
        other
        for other in specs
        if other.get("LeafNodeType") != "It" and other.get("State") not in ("passed", "skipped")
    ]
    failure = spec.get("Failure") or {}
    if state in ("skipped", "pending") and not broken:
        return Result("skipped", failure.get("Message") or state, own)
    failure = failure or (broken[0].get("Failure") if broken else None) or {}
    where = failure.get("Location") or {}
    message = failure.get("Message", "").strip() or f"it did not run: {output[-2000:]}"
    if where.get("FileName"):
        message += f"\n{where['FileName']}:{where['LineNumber']}"
    return Result("failed", message, own or output)


def _reason(output: str) -> str:
    """What a test said when it skipped itself: `    orders_test.go:12: no DNS here`."""
    found = re.findall(r"^\s+\S+_test\.go:\d+: (.*)", output, re.MULTILINE)
    return found[-1] if found else "skipped by the test"


def _without_cover() -> dict[str, str]:
    """The environment, without coverage of the tests themselves."""
    environment = dict(os.environ)
    environment.pop("GOCOVERDIR", None)
    flags = environment.get("GOFLAGS", "").split()
    environment["GOFLAGS"] = " ".join(flag for flag in flags if not flag.startswith("-cover"))
    return environment
