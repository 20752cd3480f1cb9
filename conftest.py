"""pytester for the plugin's own tests; what runs side by side; what must not be skipped in CI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["pytester"]
MUST = ("tests/cluster", "tests/faults", "tests/browser", "tests/unit/test_reports.py")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under `-n --dist=loadgroup`: what shares a daemon or a cluster shares a worker.

    Everything else goes by its file, whose fixtures are made once then.
    """
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        if values.get("engine") == "docker":
            group = "docker"
        else:
            group = "faults" if "tests/faults" in item.nodeid else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


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
