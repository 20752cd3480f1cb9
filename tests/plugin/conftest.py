"""Inner runs in processes of their own, in the three ways a suite can be run."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the outer run reaches an inner one."""
    for name in os.environ:
        if name.startswith(("E2E_COVERAGE", "KINDCOV_", "PYTEST_XDIST_")):
            monkeypatch.delenv(name)


@pytest.fixture(params=[["-p", "no:xdist"], [], ["-n", "2"]], ids=["noxdist", "plain", "n2"])
def mode(request: pytest.FixtureRequest) -> list[str]:
    """Arguments of the inner run."""
    args: list[str] = request.param
    return args
