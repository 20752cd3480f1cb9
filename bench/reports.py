"""All reports at the size of a large service: `python bench/reports.py [TESTS] [SHARE]`.

The service of bench/contexts.py (100,000 units in 1,500 files and 300 packages), 1,000 tests unless
said otherwise. Who ran what is written first; then every type is made from one report, in one
process, as a run does it. Seconds and sizes, those of a type from its beginning on the disk to its
end; then the peak of resident memory.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

import contexts as service
import numpy as np

from pytest_kindcov.covdata.store import Program, Store
from pytest_kindcov.report import contexts, make, sources, types

META = 2_000_000  # bytes of its meta-data file: 20 a unit
MANUAL = {"term", "term-missing", "markdown-append"}  # they have no place of their own


def lay(root: Path) -> None:
    """A repository of which every file fits the units."""
    (root / "go.mod").write_text("module example.com/m\n")
    for number in range(service.FILES):
        file = root / f"p{number * service.PACKAGES // service.FILES}" / f"f{number}.go"
        file.parent.mkdir(exist_ok=True)
        file.write_text("package p\n" + "\tif err := call(request); err != nil {\n" * 400)


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a directory."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def main() -> None:
    """Print a line for each step."""
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name, "repository"), Path(name, "out")
        root.mkdir()
        lay(root)
        meta = service.service()
        raw = bytes(META)
        counters = meta.zeros()
        vectors = list(service.vectors(meta, tests, share))
        for _, ran in vectors[: tests // 20]:  # not all: there is something to miss
            counters[ran[meta.hash]] += np.uint32(1)
        data = contexts.write(out, root, {meta.hash: meta}, vectors)
        store = Store([Program(meta, raw, counters, 1, "covmeta")])
        total = 0.0
        begin = time.perf_counter()
        own = sources.repository(root)
        run = make.Run(recorded=sources.record(own))
        steps = {"sources": time.perf_counter() - begin}
        begin = time.perf_counter()
        report = make.report(store, own, run)
        assert report is not None
        report = dataclasses.replace(report, data=data)
        steps["the report itself"] = time.perf_counter() - begin
        for step, spent in steps.items():
            total += spent
            print(f"{step:18} {spent:5.1f} s")
        for kind in types.TYPES:
            target = out / kind
            text = kind if kind not in MANUAL else f"{kind}:{target}"
            begin = time.perf_counter()
            where = types.emit(types.parse(text), report, out)
            spent = time.perf_counter() - begin
            total += spent
            made = Path(where).parent if types.TYPES[kind].first else Path(where)
            print(f"{kind:18} {spent:5.1f} s, {size(made) / 1e6:6.1f} MB")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(f"{'all':18} {total:5.1f} s; {peak:.0f} MB; {report.total.percent} of", end=" ")
        print(f"{report.total.statements:,} statements, {len(report.lines):,} lines")


if __name__ == "__main__":
    main()
