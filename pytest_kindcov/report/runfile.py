"""What a run leaves besides coverage data: `run.json`, so that its reports can be made again."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from pytest_kindcov.report import datafile, place
from pytest_kindcov.report.make import Run
from pytest_kindcov.report.model import Container, Issue, Phase
from pytest_kindcov.report.texts import shown
from pytest_kindcov.report.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "run.json"
_FORMAT = 1


def write(directory: Path, run: Run) -> None:
    """Write it. Raises OSError."""
    value = {
        "format": _FORMAT,
        "time": run.time,
        "title": run.title,
        "contexts": run.data is not None,
        "containers": [dataclasses.asdict(one) for one in run.containers],
        "issues": [dataclasses.asdict(one) for one in run.issues],
        "phases": [dataclasses.asdict(one) for one in run.phases],
        "sources": dict(run.recorded),
        "tests": dict(run.tests),
        "tree": dataclasses.asdict(run.tree) if run.tree else None,
        "data": _time(run.data),
    }
    place.file(directory / NAME, (json.dumps(value, indent=1) + "\n").encode())


def read(directory: Path) -> Run:
    """Read it; without one, or with one that cannot be used, nothing is known of the run.

    Its data file is named if the run wrote one, be it there or not.
    """
    file = directory / NAME
    if not file.exists():
        return Run()
    try:
        value: dict[str, Any] = json.loads(file.read_bytes())
        if value["format"] != _FORMAT:
            raise ValueError("of another version")
        return Run(
            time=float(value["time"]),
            title=shown(str(value["title"])),
            data=directory / datafile.NAME if value.get("contexts") else None,
            recorded={str(path): str(digest) for path, digest in value["sources"].items()},
            containers=tuple(_container(one) for one in value["containers"]),
            issues=tuple(
                Issue(*(shown(str(one[key])) for key in ("kind", "name", "reason")))
                for one in value["issues"]
            ),
            phases=tuple(
                Phase(shown(str(one["name"])), float(one["begin"]), float(one["seconds"]))
                for one in value["phases"]
            ),
            tests={str(name): str(how) for name, how in value.get("tests", {}).items()},
            tree=_tree(value.get("tree")),
            data_time=float(value.get("data", 0.0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Run(issues=(Issue("bad file", shown(str(file)), f"cannot be used: {error!r}"),))


def _time(data: Path | None) -> float:
    """When a data file was written; 0 if there is none."""
    if data is None:
        return 0.0
    with datafile.opened(data) as connection:
        (when,) = connection.execute("SELECT time FROM kindcov_run").fetchone()
    return float(when)


def _tree(value: dict[str, Any] | None) -> Tree | None:
    if value is None:
        return None
    changed = {str(path): str(digest) for path, digest in value["changed"].items()}
    return Tree(str(value["commit"]), str(value["below"]), changed)


def _container(value: dict[str, Any]) -> Container:
    words = ("name", "node", "image", "verdict", "text")
    return Container(
        **{word: shown(str(value[word])) for word in words},
        loses=bool(value["loses"]),
        allowed=bool(value["allowed"]),
        programs=tuple(shown(str(one)) for one in value["programs"]),
    )


def join(runs: Sequence[Run]) -> Run:
    """What is known of several runs together. Phases of one say nothing beside another's."""
    if len(runs) == 1:
        return runs[0]
    recorded: dict[str, str] = {}
    for run in runs:
        for path, digest in run.recorded.items():
            # Of a file that was built in two versions neither can be painted: "" is no digest.
            recorded[path] = digest if recorded.get(path, digest) == digest else ""
    tests: dict[str, str] = {}
    for run in runs:
        for name, how in run.tests.items():
            tests[name] = how if tests.get(name, how) == how else "failed"
    trees = [run.tree for run in runs]
    titles = dict.fromkeys(run.title for run in runs if run.title)
    return Run(
        time=max((run.time for run in runs), default=0.0),
        title="; ".join(titles),
        recorded=recorded,
        containers=tuple(one for run in runs for one in run.containers),
        issues=tuple(dict.fromkeys(one for run in runs for one in run.issues)),
        tests=tests,
        # Contexts of two states of the source are of none.
        tree=trees[0] if trees and all(tree == trees[0] for tree in trees) else None,
    )
