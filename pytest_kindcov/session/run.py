"""What the parts of a session share: settings, what became of it, what it did when."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.covdata.paths import Repository
    from pytest_kindcov.options import Settings
    from pytest_kindcov.report.model import Phase, Report
    from pytest_kindcov.service.deploy import Deployed


@dataclass
class Outcome:
    """How the run's infrastructure fared: what the summary prints and the exit code follows."""

    errors: list[KindCovError] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    report: Report | None = None
    skipped: list[str] = field(default_factory=list)
    """Why tests were skipped that needed the cluster; nothing is said of coverage then."""
    notes: list[str] = field(default_factory=list)
    """Lines for the block: what is no problem, what was kept."""
    wrote: list[str] = field(default_factory=list)
    """Files and directories, as the user would name them."""
    used: bool = False
    """Whether a cluster was made or attached; nothing is printed otherwise."""
    headline: str = ""
    tests: dict[str, str] = field(default_factory=dict)
    """By node id how tests ended: see `report.make.Run`."""
    subset: str = ""
    """What was selected, where tests were left out that a change cannot affect."""
    interrupted: bool = False
    """Whether the end itself was cut short."""


class Run:
    """A run that may need a cluster.

    Args:
        settings: of the run.
        tell: prints one line of progress; called from several threads.
        kept: gives the directory in which programs stay between runs; None: nothing stays.

    Attributes:
        outcome: how it fares.
        cancel: set when nothing more is to be begun.
        deployed: the services that are there.
        phases: its parts that are over.

    """

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[str], None],
        kept: Callable[[], Path] | None = None,
    ) -> None:
        self.settings = settings
        self.kept = kept
        self.outcome = Outcome()
        self.cancel = threading.Event()
        self.deployed: list[Deployed] = []
        self.phases: list[Phase] = []
        self.begin = time.monotonic()
        self._print = tell

    @cached_property
    def state(self) -> State:
        """The state directory, made when it is first needed."""
        return State(Path(tempfile.mkdtemp(prefix=f"kindcov-{os.getpid()}-")))

    @property
    def has_state(self) -> bool:
        """Whether there is a state directory."""
        return "state" in self.__dict__

    @property
    def directory(self) -> Path:
        """Where the run's data and reports go.

        What some selected tests covered is no total, and no record to select by: that stays.
        """
        return self.settings.dir / "selected" if self.outcome.subset else self.settings.dir

    @property
    def unique(self) -> str:
        """A name for a cluster that no other run gives."""
        suffix = self.state.directory.name[-4:].lower().replace("_", "x")
        return f"kindcov-{os.getpid()}-{suffix}"

    @cached_property
    def repository(self) -> Repository:
        """The repository whose services are tested."""
        from pytest_kindcov.report import sources

        return sources.repository(self.settings.rootdir)

    def tell(self, line: str) -> None:
        """Print a line of progress, with the time."""
        self._print(f"kindcov: {time.monotonic() - self.begin:5.1f} s  {line}")

    def phase(self, name: str, begin: float) -> None:
        """Note a part of the run that ends now; it began at a time of `time.monotonic`."""
        from pytest_kindcov.report.model import Phase

        self.phases.append(Phase(name, begin - self.begin, time.monotonic() - begin))


def known(error: Exception) -> KindCovError:
    """An error as one of ours; a defect shows where it is."""
    if isinstance(error, KindCovError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return KindCovError(
            f"{error.filename or 'a file'} cannot be written",
            cause=str(error.strerror),
            remedy="make room in this directory and in that for temporary files: "
            + tempfile.gettempdir(),
            slug="disk-full",
        )
    trace = "".join(traceback.format_exception(error)).rstrip()
    return KindCovError(
        f"unexpected {type(error).__name__}",
        cause=trace,
        remedy="please report it",
        slug="unexpected",
    )


def relative(path: Path, root: Path) -> str:
    """A path as one names it from a directory."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(root))
    return str(path)
