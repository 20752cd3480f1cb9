"""Reports over coverage files: table, text profile, merged directory, JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report.model import Summary, Tally
from pytest_kindcov.report.terminal import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.covdata.profile import Profile
    from pytest_kindcov.covdata.store import Store

# Type, and where it goes unless a destination is given; "" is standard output.
TYPES = {"term": "", "go": "coverage.out", "covdata": "covdata", "json": "coverage.json"}


def summary(profile: Profile) -> Summary:
    """Statements by package."""
    return Summary([Tally(*numbers) for numbers in profile.by_package()])


def run(paths: Sequence[str], reports: Sequence[tuple[str, str | None]]) -> int:
    """Read, name the problems on standard error, and make all reports.

    Args:
        paths: directories of coverage files, and text profiles.
        reports: types, and their destinations or None.

    Returns:
        The exit code: 0, or 1 when there is nothing to report.

    Raises:
        KindCovError: a report cannot be written.

    """
    store = stores.read(paths)
    for problem in store.problems:
        print(f"kindcov: {problem}", file=sys.stderr)
    profile = store.profile()
    if profile is None:
        print("kindcov: no coverage data", file=sys.stderr)
        return 1
    for kind, destination in reports:
        emit(kind, TYPES[kind] if destination is None else destination, store, profile)
    return 0


def emit(kind: str, destination: str, store: Store, profile: Profile) -> None:
    """Make one report.

    Args:
        kind: one of TYPES.
        destination: a file or directory; "-" or "" is standard output.
        store: what was read.
        profile: all of it together.

    Raises:
        KindCovError: it cannot be written there.

    """
    try:
        if kind == "covdata":
            if destination in ("", "-"):
                raise KindCovError(
                    "a covdata report is a directory: name one", slug="report-needs-directory"
                )
            stores.write(store, destination)
            return
        data = _CONTENT[kind](store, profile)
        if destination in ("", "-"):
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            Path(destination).write_bytes(data)
    except OSError as error:
        raise KindCovError(
            f"the {kind} report cannot be written",
            cause=f"{destination}: {error.strerror}",
            slug="report-not-written",
        ) from error


def _term(_store: Store, profile: Profile) -> bytes:
    import shutil

    width = shutil.get_terminal_size().columns
    return "".join(f"{line}\n" for line in table(summary(profile), width)).encode()


def _go(_store: Store, profile: Profile) -> bytes:
    return profiles.write(profile)


def _json(store: Store, profile: Profile) -> bytes:
    import json

    whole = summary(profile)
    report: dict[str, Any] = {
        "mode": profile.mode.name.lower(),
        "total": _figures(whole.total),
        "packages": {tally.name: _figures(tally) for tally in whole.packages},
        "files": {
            file.path: _figures(Tally(file.path, statements, covered))
            for file, statements, covered in profile.by_file()
        },
        "programs": [
            {
                "hash": program.hash,
                "mode": program.meta.mode.name.lower(),
                "packages": len(program.meta.packages),
                "functions": program.meta.functions,
                "units": len(program.meta),
                "counter_files": program.files,
            }
            for program in store.programs
        ],
        "problems": [
            {"kind": problem.kind, "name": problem.name, "reason": problem.reason}
            for problem in store.problems
        ],
    }
    return (json.dumps(report, indent=1) + "\n").encode()


def _figures(tally: Tally) -> dict[str, int | str]:
    return {
        "statements": tally.statements,
        "covered": tally.covered,
        "percent": tally.percent.rstrip("%"),
    }


_CONTENT = {"term": _term, "go": _go, "json": _json}
