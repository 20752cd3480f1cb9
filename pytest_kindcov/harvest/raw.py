"""Collected files onto the disk, as `go tool covdata` reads them."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

from pytest_kindcov.harvest.files import COUNTERS, Container

if TYPE_CHECKING:
    from pathlib import Path


def write(containers: list[Container], directory: Path, *, append: bool = False) -> None:
    """Write all coverage files flat into a directory, as `go tool covdata -i` reads it.

    Without `append`, what an earlier run left there is removed first: its counts must not join this
    run's. Counter files of two containers can bear one name (process 1 in both): the later one's
    time stamp in the name is counted up until it is free.
    """
    origin: dict[str, str] = {}
    names = directory.parent / "covdata.json"
    if append:
        with contextlib.suppress(OSError, ValueError):
            origin = dict(json.loads(names.read_text()))
    else:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    for container in containers:
        for name, data in sorted(container.files.items()):
            free = _free_name(directory, name) if COUNTERS.fullmatch(name) else name
            (directory / free).write_bytes(data)
            if free not in origin:
                origin[free] = container.title
    names.write_text(json.dumps(origin, indent=1, sort_keys=True))


def _free_name(directory: Path, name: str) -> str:
    stem, _, stamp = name.rpartition(".")
    number = int(stamp)
    while (directory / f"{stem}.{number}").exists():
        number += 1
    return f"{stem}.{number}"
