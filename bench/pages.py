"""The HTML report at the size of a large service: `python bench/pages.py [TESTS] [SHARE]`.

The service and the tests of bench/contexts.py, with source of 220 lines in each of its 1,500 files.
Seconds (and those of the processor alone, for a busy machine) to read who ran what and to write
the pages, and their size.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import contexts as data
import numpy as np

from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata.store import Store
from pytest_kindcov.report import contexts, html, make, sources

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Report

_LINES = (
    "\tif err := handle(ctx, request.Field%d); err != nil {",
    '\t\treturn fmt.Errorf("handling %%q: %%w (%d)", request.Name, err)',
    "\t}",
)


def service(root: Path, tests: int, share: float) -> Report:
    """The service's source, its data file, and the report of it."""
    (root / "go.mod").write_text("module example.com/m\n")
    head = ["// Package p is one of many.", "package p", *([""] * 7)]
    body = [line % number if "%d" in line else line for number in range(70) for line in _LINES]
    for number in range(data.FILES):
        file = root / f"p{number * data.PACKAGES // data.FILES}" / f"f{number}.go"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join([*head, *body, ""]))
    meta = data.service()
    counts = np.zeros(len(meta), np.uint32)
    for _, ran in data.vectors(meta, tests, share):
        counts[ran[data.HASH]] += 1
    file = contexts.write(
        root / ".kindcov", root, {data.HASH: meta}, data.vectors(meta, tests, share)
    )
    store = Store(texts=[profiles.from_counters(meta, counts)])
    report = make.report(store, sources.repository(root), make.Run(data=file))
    assert report is not None
    return report


def size(directory: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main() -> None:
    """Write the report once."""
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
    with tempfile.TemporaryDirectory() as name:
        report = service(Path(name), tests, share)
        target = Path(name, "html")
        target.mkdir()
        begin, used = time.perf_counter(), time.process_time()
        html.write(target, report)
        spent, used = time.perf_counter() - begin, time.process_time() - used
        print(
            f"{tests:,} tests, {data.UNITS:,} units, {data.FILES:,} files: {spent:.1f} s"
            f" ({used:.1f} s of the processor), {size(target) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
