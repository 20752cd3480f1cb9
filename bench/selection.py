"""Does selection leave out what a change affects? `python bench/selection.py [EDITS] [SEED] [all]`.

The orders example as a git repository: its tests run, each against a real process of the service,
and that is the record. Then 200 random edits: the service is built with each, and the tests that
are left out (or `all`) run again. A test is affected if it ends otherwise, is answered otherwise,
or runs other code. Said besides: how many are selected, by kind of edit, and why all are.

Exit code 1 if an affected test was left out.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import edits
import selecttruth


def main(count: int, seed: int, every: bool) -> int:
    """Make the edits of a seed."""
    chance = random.Random(seed)  # noqa: S311
    kinds: dict[str, list[tuple[int, int]]] = {}
    reasons: Counter[str] = Counter()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="kindcov-selection-") as scratch:
        record = selecttruth.recorded(Path(scratch))
        names = sorted(record.deeds)
        record.build()
        assert record.differ(names) == [], "the tests are not the same twice"
        for number in range(count):
            edit = edits.edit(record.root, chance, record.build)
            plan = record.plan()
            selected = set(names) - plan.leave
            affected = set(record.differ(names if every else plan.leave))
            kinds.setdefault(edit.kind, []).append((len(selected), len(affected)))
            for why in plan.everything[:1]:
                reasons[re.sub(r"^\S+: |\S+(?= changed,| is )|(?<=signature of )\S+", "", why)] += 1
            left_out = affected & plan.leave
            missed += bool(left_out)
            word = f"LEFT OUT {sorted(left_out)}" if left_out else ""
            print(
                f"{number:3} {edit.kind:10} {len(selected):2} selected, {len(affected):2} affected"
                f"  {edit.what[:70]}  {word}",
                flush=True,
            )
            edits.undo(record.root)
    total = len(names)
    rows = [*kinds.items(), ("all", [one for found in kinds.values() for one in found])]
    for kind, found in rows:
        shares = [sum(column) / len(found) / total for column in zip(*found, strict=True)]
        print("{:10} {:3}  {:6.1%} selected {:6.1%} affected".format(kind, len(found), *shares))
    for reason, often in reasons.most_common():
        print(f"all tests, {often:3} times: {reason}")
    print(f"{missed} of {count} edits left out an affected test")
    return 1 if missed else 0


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word != "all"]
    count, seed = numbers + [200, 1][len(numbers) :]
    sys.exit(main(count, seed, every="all" in sys.argv))
