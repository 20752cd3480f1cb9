"""A directory of merged coverage files, for `go tool covdata`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report.tally import Summary, Tally

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.covdata.profile import Profile
    from pytest_kindcov.report.model import Report


def write(directory: Path, report: Report) -> None:
    """Write the files of all programs. Nothing is left out of them, for they name no files."""
    if report.store is not None:
        stores.write(report.store, directory)


def check(target: Path, report: Report) -> None:
    """Other coverage files must not be there: together they would be another figure.

    Raises:
        KindCovError: there are some.

    """
    if report.store is None or not target.is_dir():
        return
    own = {name for program in report.store.programs for name in stores.file_names(program)}
    for path in sorted(target.iterdir()):
        name = path.name
        if (stores.META.fullmatch(name) or stores.COUNTERS.fullmatch(name)) and name not in own:
            raise KindCovError(
                f"{target} has other coverage files, such as {name}",
                remedy="name a directory without",
                slug="report-in-the-way",
            )


def summary(profile: Profile) -> Summary:
    """Statements by package."""
    return Summary([Tally(*numbers) for numbers in profile.by_package()])
