"""Go's text profile, for `go tool cover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.covdata import profile as profiles

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Report


def content(report: Report, _flags: frozenset[str]) -> bytes:
    """The file, without what was left out."""
    return profiles.write(report.profile)
