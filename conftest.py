"""pytester for the plugin's own tests; what runs side by side; what must not be skipped in CI."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["pytester"]
SUPPORT = Path(__file__).parent / "tests/support"
pytest.register_assert_rewrite(*(file.stem for file in SUPPORT.glob("*.py")))  # they compare too
MUST = ("tests/cluster", "tests/faults", "tests/browser", "tests/unit/test_reports.py")


class Shared(LoadScopeScheduling):
    """What shares a daemon or a cluster goes to one worker, everything else by its file."""

    def _split_scope(self, nodeid: str) -> str:
        if re.search(r"[\[-]docker[\]-]", nodeid):
            return "docker"
        file = nodeid.partition("::")[0]
        # Two halves, each with a cluster: alone they would be the last for a quarter of an hour.
        return f"faults {file < 'tests/faults/test_n'}" if "tests/faults" in file else file


@pytest.hookimpl(optionalhook=True)  # there is none under `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shared | None:
    """For `--dist=loadscope`. Marks for `loadgroup` get lost: xdist 3.8 with pytest 9.2."""
    return Shared(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test of a cluster or of a report fails where it would skip: nothing passes unseen."""
    report = yield
    must = any(name in item.nodeid for name in MUST)
    if report.skipped and os.environ.get("CI") == "true" and must:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not be skipped in CI: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were tried again, which else is told of those alone that failed in the end."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"tried again: {report.nodeid}", "-")
        terminalreporter.write_line("\n".join(report.longreprtext.splitlines()[-40:]))
