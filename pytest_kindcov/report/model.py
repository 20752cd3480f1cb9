"""Coverage per package, in statements, as Go counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.errors import HarvestError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tally:
    """Statements of a package, or of all."""

    name: str
    statements: int
    covered: int

    @property
    def missed(self) -> int:
        """Statements that were not run."""
        return self.statements - self.covered

    @property
    def percent(self) -> str:
        """As Go prints it, with one decimal; but 100.0 and 0.0 only when that is exact."""
        return percent(self.covered, self.statements)


@dataclass(frozen=True)
class Summary:
    """What was covered."""

    packages: list[Tally]

    @property
    def total(self) -> Tally:
        """Sum over all packages."""
        return Tally(
            "TOTAL",
            sum(package.statements for package in self.packages),
            sum(package.covered for package in self.packages),
        )


def percent(covered: int, statements: int) -> str:
    """A percentage with one decimal that never rounds to 0 or 100. No statements: `100.0%`."""
    if covered >= statements:
        return "100.0%"
    if covered == 0:
        return "0.0%"
    return f"{min(max(100 * covered / statements, 0.1), 99.9):.1f}%"


def read_profile(profile: Path) -> Summary:
    """Read Go's text profile: `FILE:L.C,L.C STATEMENTS COUNT` after a `mode:` line.

    A unit that stands there more than once (one package in several programs) is counted once.

    Raises:
        HarvestError: a line is not of this form.

    """
    units: dict[str, tuple[int, bool]] = {}
    with profile.open() as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("mode:"):
                continue
            try:
                unit, size, count = line.rsplit(" ", 2)
                ran = int(count) > 0 or units.get(unit, (0, False))[1]
                units[unit] = (int(size), ran)
            except ValueError as error:
                raise HarvestError(f"{profile}, line {number} is not a profile line") from error
    packages: dict[str, list[int]] = {}
    for unit, (statements, ran) in units.items():
        package = unit.rpartition(":")[0].rpartition("/")[0]
        sums = packages.setdefault(package, [0, 0])
        sums[0] += statements
        sums[1] += statements if ran else 0
    return Summary([Tally(name, *sums) for name, sums in sorted(packages.items())])
