"""Collected files onto the disk, as `go tool covdata` reads them."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

from pytest_kindcov.covdata import meta as meta_files
from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.harvest.files import COUNTERS, META, Container

if TYPE_CHECKING:
    from pathlib import Path


def write(containers: list[Container], directory: Path, *, append: bool = False) -> None:
    """Write all coverage files flat into a directory, as `go tool covdata -i` reads it.

    Without `append`, what an earlier run left there is removed first: its counts must not join this
    run's. Counter files of two containers can bear one name (process 1 in both): the later one's
    time stamp in the name is counted up until it is free. Of a meta file that several
    containers left, one that is whole is taken.
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
            if META.fullmatch(name) and not _better(directory / name, data):
                continue
            free = _free_name(directory, name) if COUNTERS.fullmatch(name) else name
            (directory / free).write_bytes(data)
            if free not in origin:
                origin[free] = container.title
    names.write_text(json.dumps(origin, indent=1, sort_keys=True))


def _better(path: Path, data: bytes) -> bool:
    """Whether a meta file is to be written: none is there, or a damaged one and this is not."""
    if not path.exists():
        return True
    try:
        whole = meta_files.read(data).hash.hex() == path.name.rpartition(".")[2]
    except CoverageDataError:
        return False
    return whole and data != path.read_bytes()


def _free_name(directory: Path, name: str) -> str:
    stem, _, stamp = name.rpartition(".")
    number = int(stamp)
    while (directory / f"{stem}.{number}").exists():
        number += 1
    return f"{stem}.{number}"
