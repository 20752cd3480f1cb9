"""Go and Ginkgo suites as pytest items: each test function, each spec, with the run's services."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.fixtures import TopRequest

from pytest_kindcov.errors import SuiteError
from pytest_kindcov.fixtures import SETTINGS, spec_of
from pytest_kindcov.gotests import Case, Package, Result
from pytest_kindcov.service.goservice import GoService

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PACKAGES = pytest.StashKey[dict["Path", Package]]()


def places(config: pytest.Config) -> list[tuple[Path, bool]]:
    """The directories of `kindcov_go_suites`, and whether those below count too (`/...`)."""
    found = []
    for pattern in config.stash[SETTINGS].go_suites:
        below = pattern.endswith("...")
        found.append(((config.rootpath / pattern.removesuffix("...")).resolve(), below))
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Collect the suites too where `testpaths` says what is collected."""
    config.stash[_PACKAGES] = {}
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    given = [(config.invocation_params.dir / arg).resolve() for arg in config.args]
    for place, _ in places(config):
        if not any(place.is_relative_to(path) for path in given):
            config.args.append(str(place))


@pytest.fixture(scope="session")
def kindcov_suite_env() -> dict[str, str]:
    """Environment for Go tests, over the run's own; a conftest's fixture of this name overrides."""
    return {}


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> GoFile | None:
    """A file of Go tests in one of the directories."""
    if not file_path.name.endswith("_test.go"):
        return None
    directory = file_path.parent.resolve()
    for place, below in places(parent.config):
        if directory == place or (below and directory.is_relative_to(place)):
            file: GoFile = GoFile.from_parent(parent, path=file_path)
            return file
    return None


class GoFile(pytest.File):
    """A file of Go tests. Its package is compiled and listed once."""

    def collect(self) -> Iterable[GoItem]:
        """The tests and specs that stand in this file."""
        package = self._package()
        try:
            cases = package.cases()
        except SuiteError as error:
            raise self.CollectError(str(error)) from error
        here = self.path.resolve()
        names: dict[str, int] = {}
        for case in cases:
            if case.file.resolve() != here:
                continue
            # Node ids are lines, and xdist compares them.
            name = re.sub(r"\s+", " ", case.name)
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:
                name = f"{name} #{names[name]}"
            yield GoItem.from_parent(self, name=name, case=case, package=package)

    def _package(self) -> Package:
        settings = self.config.stash[SETTINGS]
        directory = self.path.parent.resolve()
        packages = self.config.stash[_PACKAGES]
        if directory not in packages:
            packages[directory] = Package(directory, settings.go_flags, settings.dir / "suites")
        return packages[directory]


class GoItem(pytest.Item):
    """A Go test or a Ginkgo spec; it gets the cluster and all services that it can see.

    Args:
        case: what it is.
        package: where it is.

    """

    def __init__(self, *, case: Case, package: Package, **more: Any) -> None:
        super().__init__(**more)
        self.case = case
        self.package = package
        self.funcargs: dict[str, Any] = {}
        for label in case.labels:
            mark = re.sub(r"\W", "_", label)
            self.config.addinivalue_line("markers", f"{mark}: a label of Ginkgo")
            self.add_marker(getattr(pytest.mark, mark))
        self._prepare()

    def _prepare(self) -> None:
        """As a test function that names them: pytest's own doctest items do the same."""
        manager = self.session._fixturemanager
        services = []
        for name in _conftest_names(self.config):
            definitions = manager.getfixturedefs(name, self)
            if definitions and spec_of(definitions[-1]) is not None:
                services.append(name)
        wanted = ["kind_cluster", "kindcov_suite_env", *sorted(services)]

        def function() -> None:
            """A function with these parameters."""

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in wanted])
        function.__signature__ = signature  # type: ignore[attr-defined]
        self._fixtureinfo = manager.getfixtureinfo(node=self, func=function, cls=None)
        self.fixturenames = self._fixtureinfo.names_closure
        self._request = TopRequest(self, _ispytest=True)  # type: ignore[arg-type]

    def setup(self) -> None:
        """Wait for the cluster and the services."""
        self._request._fillfixtures()

    def runtest(self) -> None:
        """Run it, or with the first of a group all of it that is selected."""
        __tracebackhide__ = True
        result = self._result()
        if result.output:
            self.add_report_section("call", "Go output", result.output)
        if result.outcome == "skipped":
            pytest.skip(result.message)
        if result.outcome == "failed":
            raise GoTestFailed(result)

    def _result(self) -> Result:
        results = self.session.stash.setdefault(_RESULTS, {})
        if self.nodeid not in results:
            group = [item for item in self._group() if item.nodeid not in results]
            timeout = self.config.stash[SETTINGS].go_timeout
            cases = [item.case for item in group]
            found = self.package.run(cases, self._environment(), timeout)
            results.update({item.nodeid: found[item.case.name] for item in group})
        return results.pop(self.nodeid)  # a rerun runs it again

    def _group(self) -> list[GoItem]:
        if not self.case.group:
            return [self]
        return [
            item
            for item in self.session.items
            if isinstance(item, GoItem)
            and (item.package, item.case.entry, item.case.group)
            == (self.package, self.case.entry, self.case.group)
        ]

    def _environment(self) -> dict[str, str]:
        """KUBECONFIG, and of each service its URL, address and namespace."""
        env = {"KUBECONFIG": str(self.funcargs["kind_cluster"].kubeconfig_path)}
        for value in self.funcargs.values():
            if not isinstance(value, GoService):
                continue
            prefix = "KINDCOV_" + re.sub(r"\W", "_", value.name).upper()
            env[f"{prefix}_NAMESPACE"] = value.namespace
            if value.host:
                env[f"{prefix}_URL"] = value.url
                env[f"{prefix}_ADDRESS"] = f"{value.host}:{value.port}"
        env.update(self.funcargs["kindcov_suite_env"])
        return env

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the test said, not where in the plugin that was noticed."""
        if isinstance(excinfo.value, (GoTestFailed, SuiteError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where it stands."""
        return self.path, self.case.line - 1, self.name


def _conftest_names(config: pytest.Config) -> set[str]:
    """What conftests define: services are among it."""
    return {
        name
        for plugin in config.pluginmanager.get_plugins()
        if str(getattr(plugin, "__file__", "")).endswith("conftest.py")
        for name in vars(plugin)
    }


_RESULTS = pytest.StashKey[dict[str, Result]]()


class GoTestFailed(Exception):
    """A Go test failed.

    Args:
        result: how.

    """

    def __init__(self, result: Result) -> None:
        super().__init__(result.message or last_words(result.output))


def last_words(output: str) -> str:
    """The lines of a failed test's output that say why, as `go test` shows them."""
    lines: Iterator[str] = (
        line for line in output.splitlines() if not line.startswith(("=== ", "PASS", "FAIL", "ok "))
    )
    return "\n".join(lines).strip() or "it failed without a word"
