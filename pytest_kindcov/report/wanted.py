"""What a user wants of the reports, from the command line or from pytest's options, and its making.

Both ways lead here, so that the same wishes give the same report and the same verdict.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.report import gate

if TYPE_CHECKING:
    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.covdata.store import Store
    from pytest_kindcov.report.make import Run
    from pytest_kindcov.report.model import Previous, Report
    from pytest_kindcov.report.types import Request


@dataclass(frozen=True)
class Wanted:
    """What a user wants.

    Args:
        reports: none: only the total.
        rules: limits.
        compare: the commit since which the patch counts; "" for no patch.
        unit: profiles or directories of unit tests.
        include: globs of files and packages; none: all.
        exclude: the same, and `generated`.

    """

    reports: tuple[Request, ...] = ()
    rules: tuple[gate.Rule, ...] = ()
    compare: str = ""
    unit: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def build(
    store: Store, own: Repository, run: Run, wanted: Wanted, previous: Previous | None = None
) -> Report | None:
    """Make the report, hold it against the patch and the limits.

    Args:
        store: what was covered in the cluster, or all there is.
        own: the repository.
        run: what is known of the run.
        wanted: what is wanted.
        previous: the run before.

    Returns:
        The report; None when there are no coverage data.

    Raises:
        CoverageDataError: the patch is not known, or there are no data of unit tests.

    """
    from pytest_kindcov.covdata import store as stores
    from pytest_kindcov.report import make

    unit = None
    if wanted.unit:
        unit = stores.read(wanted.unit)
        if not (unit.programs or unit.texts):
            raise CoverageDataError(
                f"no coverage data of unit tests in {', '.join(wanted.unit)}",
                cause="\n".join(map(str, unit.problems)),
                remedy="name a profile of `go test -coverprofile`, or a GOCOVERDIR",
                slug="unit-data-missing",
            )
    report = make.report(
        store,
        own,
        run,
        unit=unit,
        include=wanted.include,
        exclude=wanted.exclude,
        previous=previous,
    )
    if report is None:
        return None
    if wanted.compare:
        from pytest_kindcov.report import patch  # subprocess

        found, issues = patch.read(report, wanted.compare)
        report = dataclasses.replace(report, patch=found, issues=(*report.issues, *issues))
    return dataclasses.replace(report, gates=gate.judge(report, wanted.rules))
