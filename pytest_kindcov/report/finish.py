"""The end of a pytest run: all its reports. One that fails keeps no other from being made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import HarvestError, KindCovError
from pytest_kindcov.report import inputs, jsonfile, runfile, types, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.report.make import Run
    from pytest_kindcov.report.model import Report
    from pytest_kindcov.report.wanted import Wanted

# What every run leaves: for other tools, and for the run that comes after.
_ALWAYS = (types.Request("go"), types.Request("json"))


@dataclass
class Finished:
    """What came of it.

    Args:
        report: None when there were no data.
        wrote: files and directories, in the order in which they were asked for.
        notes: what was not written, and why.
        errors: what could not be.
        issues: what may mislead, where there is no report to say it.

    """

    report: Report | None = None
    wrote: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[KindCovError] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)


def finish(
    directory: Path, own: Repository, run: Run, wish: Wanted, *, append: bool = False
) -> Finished:
    """Make all reports of a run.

    Args:
        directory: of the run; has `covdata/`.
        own: the repository.
        run: what is known of it.
        wish: what is wanted.
        append: whether what is known of earlier runs there stays.

    """
    done = Finished()
    if append and (directory / runfile.NAME).exists():
        both = runfile.join([runfile.read(directory), run])
        run = dataclasses.replace(both, title=run.title, phases=run.phases, data=run.data)
    store = stores.read([directory / inputs.COVDATA])
    # Programs without counters are named by their containers.
    store.problems = [found for found in store.problems if found.kind is not stores.Kind.IDLE]
    previous = jsonfile.previous(directory / types.TYPES["json"].destination)
    try:
        runfile.write(directory, run)
    except OSError as error:
        done.errors.append(
            HarvestError(
                f"{directory} cannot be written",
                cause=error.strerror or str(error),
                slug="report-not-written",
            )
        )
    try:
        report = wanted.build(store, own, run, wish, previous)
    except KindCovError as error:
        # A patch or unit tests that cannot be read must not hide what was covered.
        done.errors.append(error)
        report = wanted.build(
            store, own, run, dataclasses.replace(wish, compare="", unit=()), previous
        )
    if report is None:
        done.issues = [str(problem) for problem in store.problems]
        return done
    done.report = report
    for request in [*_ALWAYS, *wish.reports]:
        if request.printed or (request.destination is None and request.kind == "covdata"):
            continue  # in the block at the end; and there already
        try:
            where = types.emit(request, report, directory)
        except KindCovError as error:
            done.errors.append(error)
        else:
            (done.notes if where.startswith(types.NOWHERE) else done.wrote).append(where)
    done.wrote = list(dict.fromkeys([*done.wrote, f"{directory / inputs.COVDATA}/"]))
    return done
