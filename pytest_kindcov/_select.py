"""pytest's hooks that leave out tests which a change cannot affect; all processes do so alike."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov import select
from pytest_kindcov.report.texts import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLAN_KEY = "kindcov_plan"
_COUNTS = "kindcov_selected"
_NO_SERVICE = "uses no service of this run"
_TOGETHER = "runs together with one of these"


class Selection:
    """Leaves out what need not run, and says so.

    Args:
        make: makes the plan, once, when it is first needed.
        uses: whether a test uses a service or the cluster.
        tell: is told what was selected, in a sentence, where tests were left out.

    """

    def __init__(
        self,
        make: Callable[[], select.Plan],
        uses: Callable[[pytest.Item], bool],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._make = make
        self._uses = uses
        self._tell = tell
        self._rules: Counter[str] = Counter()
        self._left = 0

    @cached_property
    def plan(self) -> select.Plan:
        """What need not run."""
        return self._make()

    def pytest_report_header(self) -> list[str]:
        """What changed, and what follows."""
        return [f"kindcov: {line}" for line in select.describe(self.plan)]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what need not run: after all other selections."""
        reasons = [self._why(item) for item in items]
        groups = {_group(item) for item, why in zip(items, reasons, strict=True) if why} - {None}
        kept, left = [], []
        for item, reason in zip(items, reasons, strict=True):
            why = reason or (_TOGETHER if _group(item) in groups else "")
            if why:
                kept.append(item)
                self._rules[why] += 1
            else:
                left.append(item)
        items[:] = kept
        self._left = len(left)
        if left:
            config.hook.pytest_deselected(items=left)
        self._announce()

    def _why(self, item: pytest.Item) -> str:
        """Why a test must run; "" if it need not."""
        if self.plan.everything:
            return "all tests run"
        if not self._uses(item):
            return _NO_SERVICE
        if item.nodeid in self.plan.leave:
            return ""
        return self.plan.run.get(item.nodeid, select.UNKNOWN)

    def _announce(self) -> None:
        if self.plan.leave:
            total = self._rules.total() + self._left
            self._tell(f"selected: {self._rules.total()} of {counted(total, 'test')}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Nothing to run is no failure, if that is because nothing need run."""
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_COUNTS] = [dict(self._rules), self._left]
        elif self._left and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What ran and why, and how much was left out."""
        if terminalreporter.config.get_verbosity() < 0 or not self._left:
            return
        terminalreporter.section("kindcov selection")
        for line in self._lines():
            terminalreporter.write_line(line)

    def _lines(self) -> Sequence[str]:
        total = self._rules.total() + self._left
        lines = [f"selected {self._rules.total()} of {counted(total, 'test')}:"]
        lines += [f"  {number:>4}  {why}" for why, number in sorted(self._rules.items())]
        lines.append(
            f"left out {self._left}: they passed in the recorded run, and nothing that they ran"
            " has changed"
        )
        return lines

    # pytest-xdist's controller.

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """All workers leave out the same: what this process found."""
        node.workerinput[PLAN_KEY] = self.plan.to_json()
        if self.plan.leave and not self._left:
            self._tell("selected tests only")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Each worker collects all tests: what one left out, all did."""
        rules, left = getattr(node, "workeroutput", {}).get(_COUNTS, ({}, 0))
        if rules or left:
            self._rules, self._left = Counter(rules), left
            self._announce()


def _group(item: pytest.Item) -> object:
    """What must run as a whole, such as an Ordered container of Ginkgo; None for a test alone."""
    case = getattr(item, "case", None)
    group = getattr(case, "group", "")
    return (getattr(item, "package", None), case.entry, group) if case and group else None
