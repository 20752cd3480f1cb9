"""Damaged coverage files by the hundred thousand: `python bench/fuzz.py [COUNT] [SEED]`.

A real program's files are cut at every byte, then changed at random; the same seed gives the same
inputs. Each must be read or refused within a second, in 256 MB beyond what the process has, with no
other exception. The tests run the same with a smaller count.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import mutants
from gocover import MIX, Go, run

from pytest_kindcov.covdata import meta, profile

ROOM = 256 << 20


def main() -> None:
    """Print how many inputs of each kind were tried, and how many could still be read."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        run(Go().build(MIX, Path(name) / "mix", "-coverpkg=./..."), data, "7", "300")
        covmeta = next(data.glob("covmeta.*")).read_bytes()
        covcounters = next(data.glob("covcounters.*")).read_bytes()
    program = meta.read(covmeta)
    text = profile.write(profile.from_counters(program, program.zeros()))
    mutants.try_counters(covcounters, program)
    limit = _size() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    tried = dict.fromkeys(("meta", "counters", "profile"), 0)
    read = dict(tried)
    for data_ in mutants.cuts(covmeta):
        tried["meta"] += 1
        read["meta"] += mutants.try_meta(data_, covcounters)
    for data_ in mutants.cuts(covcounters):
        tried["counters"] += 1
        read["counters"] += mutants.try_counters(data_, program)
    print(f"cut at every byte: {tried}, read: {read}")
    begin = time.monotonic()
    while sum(tried.values()) < count:
        chance = random.Random(seed)  # noqa: S311
        seed += 1
        kind = chance.choice(list(tried))
        tried[kind] += 1
        match kind:
            case "meta":
                read[kind] += mutants.try_meta(mutants.mutant(covmeta, chance), covcounters)
            case "counters":
                read[kind] += mutants.try_counters(mutants.mutant(covcounters, chance), program)
            case _:
                read[kind] += mutants.try_profile(mutants.mutant(text, chance))
    spent = time.monotonic() - begin
    print(f"{sum(tried.values())} inputs in {spent:.0f} s: {tried}, read: {read}")


def _size() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
