"""pytest's hooks that tell the recorder which test, fixture or step is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_kindcov.state import Live

_NEW = "kindcov_new"


class ContextHooks:
    """Tests, and the fixtures that several of them share, as contexts of their own.

    Args:
        live: what is told.
        waits: whether a fixture only waits for its service: nothing is under way meanwhile.
        nodeid: gets the test that is under way.
        verbose: whether each test's line shows what it newly ran.

    """

    def __init__(
        self,
        live: Live,
        waits: Callable[[pytest.FixtureDef[Any]], bool],
        nodeid: list[str],
        verbose: bool,
    ) -> None:
        self._live = live
        self._nodeid = nodeid
        self._waits = waits
        self._verbose = verbose

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """From before the set-up until after the teardown; reruns are the same test."""
        self._nodeid[:] = [item.nodeid]
        self._live.enter(item.nodeid)
        try:
            return (yield)
        finally:
            self._live.leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """What several tests share is no test's own, neither its set-up nor its teardown."""
        if fixturedef.scope == "function":
            return (yield)
        waits = self._waits(fixturedef)
        name = "" if waits else fixturedef.argname
        if not waits:
            # The last finalizer that is added is the first to run.
            fixturedef.addfinalizer(self._live.leave)
        self._live.enter(name and f"{name} [setup]")
        try:
            result = yield
        except BaseException:
            self._live.leave()
            if not waits:
                fixturedef.addfinalizer(lambda: self._live.enter(f"{name} [teardown]"))
            raise
        self._live.leave()
        if not waits:
            fixturedef.addfinalizer(lambda: self._live.enter(f"{name} [teardown]"))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what the test newly ran, for its line."""
        report = yield
        if self._verbose and call.when == "call":
            setattr(report, _NEW, self._live.newly())
        return report


class NewlyCovered:
    """Shows in each test's line what it newly ran, with -v; also for tests that ran in workers."""

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """`PASSED +14 stmts`."""
        status = yield
        # Once: the summary at the end asks again, and other tools read what it prints.
        new = report.__dict__.pop(_NEW, 0)
        if not new or not status:
            return status
        category, letter, word = status
        text = f" +{new} stmt{'' if new == 1 else 's'}"
        return (
            category,
            letter,
            (word[0] + text, word[1]) if isinstance(word, tuple) else word + text,
        )


class Outcomes:
    """Notes how each test ended, also those that ran in workers.

    Args:
        tests: gets it, by node id: see `report.make.Run`.

    """

    def __init__(self, tests: dict[str, str]) -> None:
        self._tests = tests

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test ended. One that needed a second try has failed."""
        before = self._tests.setdefault(report.nodeid, "")
        if report.outcome not in ("passed", "skipped"):
            self._tests[report.nodeid] = "failed"
        elif report.outcome == "skipped" and before != "failed":
            self._tests[report.nodeid] = "skipped"
        elif report.when == "call" and not before:
            self._tests[report.nodeid] = "passed"
