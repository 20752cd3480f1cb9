"""pytester for the plugin's own tests; what must not be skipped in CI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["pytester"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test of a real cluster that would skip is a failure: nothing may pass unseen."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and "tests/cluster" in item.nodeid:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not be skipped in CI: {report.longrepr}"
    return report
