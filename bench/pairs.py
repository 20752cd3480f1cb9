"""Measurements side by side: what is measured, against what, and whether a goal holds.

All times of a row come from one run: ours and the other's in turns, the order of the two changing
from pair to pair. A pair gives one ratio; of these the median, the least and the greatest count, so
that a machine which slows down for a while slows down both.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FORMAT = 1
ENOUGH = 5
"""Pairs; fewer are a trial."""
HEAD = """| figure | ours | other | ratio: median (min to max) | goal | |
|---|---|---|---|---|---|
"""
# Exponent of growth that passes for linear: a tenth is for the spread of two measurements.
LINEAR = 1.1


@dataclass(frozen=True)
class Goal:
    """What is to hold.

    Args:
        kind: `at most`: ours is at most `limit` times the other; `faster`: the other takes at least
            `limit` times as long; `median` and `below`: ours itself is at most `limit`, in the
            middle of all pairs, or in each of them.
        limit: a factor; for ours itself in the row's unit.

    """

    kind: str
    limit: float

    def __post_init__(self) -> None:
        if self.kind not in ("at most", "faster", "median", "below"):
            raise ValueError(f"no kind of goal: {self.kind!r}")

    def holds(self, value: float) -> bool:
        """Whether it does, for a ratio as `Row.ratios` has it, or for ours."""
        return value >= self.limit if self.kind == "faster" else value <= self.limit

    @property
    def alone(self) -> bool:
        """Whether ours is compared with nothing but the limit."""
        return self.kind in ("median", "below")


@dataclass(frozen=True)
class Row:
    """A figure.

    Args:
        figure: what was done.
        unit: of the values: `s`, `ms`, `MB`.
        ours: one value of each pair.
        other: what else one would do; "" if there is nothing to compare with.
        others: its values, in the order of the pairs.
        goal: None for what only shows a limit, or is told besides.

    """

    figure: str
    unit: str
    ours: tuple[float, ...]
    other: str = ""
    others: tuple[float, ...] = ()
    goal: Goal | None = None

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"{self.figure}: no values")
        if self.other and len(self.others) != len(self.ours):
            raise ValueError(f"{self.figure}: {len(self.ours)} and {len(self.others)} are no pairs")

    @property
    def ratios(self) -> list[float]:
        """Of each pair: ours by the other, or how many times as fast ours is."""
        pairs = zip(self.ours, self.others, strict=True) if self.other else ()
        if self.goal is not None and self.goal.kind == "faster":
            return [b / a if a else math.inf for a, b in pairs]
        return [a / b if b else math.inf for a, b in pairs]

    @property
    def holds(self) -> bool | None:
        """Whether the goal does; None without a goal."""
        if self.goal is None:
            return None
        if self.goal.alone:
            return self.goal.holds(self._own)
        return self.goal.holds(statistics.median(self.ratios))

    @property
    def _own(self) -> float:
        """Ours, as one value."""
        below = self.goal is not None and self.goal.kind == "below"
        return max(self.ours) if below else statistics.median(self.ours)

    def text(self) -> str:
        """The row of a table."""
        faster = self.goal is not None and self.goal.kind == "faster"
        ratio = ""
        if self.other:
            low, high = min(self.ratios), max(self.ratios)
            middle = statistics.median(self.ratios)
            ratio = f"{_number(middle)} x ({_number(low)} to {_number(high)})"
            ratio += " faster" if faster else ""
        elif self.goal is not None and self.goal.kind == "median":
            ratio = f"({_number(min(self.ours))} to {_number(max(self.ours))})"
        theirs = ""
        if self.other:
            theirs = f"{_number(statistics.median(self.others))} {self.unit} {self.other}"
        goal = ""
        if self.goal is not None and self.goal.alone:
            goal = f"≤ {self.goal.limit:g} {self.unit}"
        elif self.goal is not None:
            goal = f"≥ {self.goal.limit:g} x faster" if faster else f"≤ {self.goal.limit:g} x"
        verdict = {None: "", True: "holds", False: "**MISS**"}[self.holds]
        ours = f"{_number(self._own)} {self.unit}"
        cells = (self.figure, ours, theirs, ratio, goal, verdict)
        return f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


@dataclass(frozen=True)
class Curve:
    """What grows with something.

    Args:
        figure: what was done, such as `one reading`.
        of: what there is more of, such as `pods`.
        unit: of the values.
        points: by how many of it, ascending, the values of each round.

    """

    figure: str
    of: str
    unit: str
    points: tuple[tuple[int, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2 or not all(values for _, values in self.points):
            raise ValueError(f"{self.figure}: a curve has two points or more")

    @property
    def medians(self) -> list[tuple[int, float]]:
        """The middle of each point."""
        return [(count, statistics.median(values)) for count, values in self.points]

    @property
    def exponent(self) -> float:
        """Of the last step, where what is the same for all counts least: 1 is linear."""
        (few, short), (many, long) = self.medians[-2:]
        return math.log(long / short) / math.log(many / few)

    @property
    def holds(self) -> bool:
        """Whether it is linear or better."""
        return self.exponent <= LINEAR

    def text(self) -> str:
        """The row of a table."""
        (few, first), *_, (many, last) = self.medians
        title = f"{self.figure}, {few:,} → {many:,} {self.of}"
        cost = f"{_number(first)} → {_number(last)} {self.unit}"
        verdict = "holds" if self.holds else "**MISS**"
        exponent = f"x n^{self.exponent:.2f} in the last step"
        return f"| {title} | {cost} | | {exponent} | ≤ n^{LINEAR:g} | {verdict} |\n"


def alternate(
    pairs: int, works: Sequence[Callable[[], Mapping[str, float]]]
) -> dict[str, tuple[float, ...]]:
    """Do each in turns, every second time in the other order.

    Args:
        pairs: how often.
        works: each measures itself, and gives names and values.

    Returns:
        By name the value of each pair.

    """
    taken: dict[str, list[float]] = {}
    for number in range(pairs):
        for work in works if number % 2 == 0 else reversed(works):
            for name, value in work().items():
                taken.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in taken.items()}


def table(found: Sequence[Row | Curve]) -> str:
    """A table of all."""
    return HEAD + "".join(each.text() for each in found)


def to_json(found: Sequence[Row | Curve]) -> dict[str, Any]:
    """Plain values."""
    return {
        "rows": [dataclasses.asdict(each) for each in found if isinstance(each, Row)],
        "curves": [dataclasses.asdict(each) for each in found if isinstance(each, Curve)],
    }


def from_json(value: Mapping[str, Any]) -> list[Row | Curve]:
    """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    rows: list[Row | Curve] = [
        Row(
            **{
                **row,
                "ours": tuple(map(float, row["ours"])),
                "others": tuple(map(float, row["others"])),
                "goal": Goal(**row["goal"]) if row["goal"] else None,
            }
        )
        for row in value["rows"]
    ]
    curves = [
        Curve(
            **{
                **curve,
                "points": tuple(
                    (int(count), tuple(map(float, values))) for count, values in curve["points"]
                ),
            }
        )
        for curve in value["curves"]
    ]
    return rows + curves


class Results:
    """What was measured, in a file: each figure when it was last, and on what.

    Args:
        file: JSON; made when something is put.

    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.figures: dict[str, dict[str, Any]] = {}
        if file.exists():
            value = json.loads(file.read_bytes())
            if value["format"] != FORMAT:
                raise ValueError(f"{file} is of another version; remove it")
            self.figures = value["figures"]

    def put(
        self, name: str, pairs: int, machine: Mapping[str, str], found: Sequence[Row | Curve]
    ) -> None:
        """Replace a figure's results, and write."""
        self.figures[name] = {"pairs": pairs, "machine": dict(machine), **to_json(found)}
        value = {"format": FORMAT, "figures": self.figures}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def of(self, name: str) -> list[Row | Curve]:
        """A figure's results; none if it was never measured."""
        return from_json(self.figures[name]) if name in self.figures else []


def _number(value: float) -> str:
    """Three digits that count, or all before the point."""
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"
