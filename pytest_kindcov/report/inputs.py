"""What a user names to be reported: coverage files, text profiles, and what runs left behind."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.report import runfile
from pytest_kindcov.report.model import Issue
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindcov.report.make import Run

COVDATA = "covdata"
"""In the directory of a run, its coverage files."""


@dataclass(frozen=True)
class Inputs:
    """What some paths hold.

    Args:
        paths: directories of coverage files, and text profiles, as `covdata.store` reads them.
        run: what is known of the runs.
        data: their data files.
        home: the directory of the run, if just one was given.

    """

    paths: tuple[str, ...]
    run: Run
    data: tuple[Path, ...]
    home: Path | None = None


def find(paths: Iterable[str]) -> Inputs:
    """Tell the directories of runs from those of coverage files.

    Args:
        paths: as the user gave them. The directory of a run has a `covdata/`.

    """
    found, runs, data, homes = [], [], [], []
    for path in paths:
        directory = Path(path)
        if not (directory / COVDATA).is_dir():
            found.append(path)
            # `.kindcov/covdata` is a run's too, if its name was completed too far.
            if directory.name != COVDATA or not (directory.parent / runfile.NAME).is_file():
                continue
            directory = directory.parent
        else:
            found.append(str(directory / COVDATA))
        from pytest_kindcov.report import datafile  # sqlite3: 3 ms, and not all have one

        homes.append(directory)
        run = runfile.read(directory)
        if (directory / datafile.NAME).is_file():
            data.append(directory / datafile.NAME)
        elif run.data is not None:
            run = dataclasses.replace(run, issues=(*run.issues, _gone(run.data)))
        runs.append(dataclasses.replace(run, data=None))
    home = homes[0] if len(homes) == len(found) == 1 else None
    return Inputs(tuple(found), runfile.join(runs), tuple(data), home)


def _gone(data: Path) -> Issue:
    """That what the run knew of tests did not come along."""
    reason = (
        "is not there: which tests of this run ran what is not known; some uploads of CI leave out"
        " hidden files unless they are told (include-hidden-files: true)"
    )
    return Issue("bad file", shown(str(data)), reason)
