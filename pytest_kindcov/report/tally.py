"""Figures: statements as Go counts them, exactly, and their percentage as it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


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
    def share(self) -> Fraction:
        """Of 1, exactly. Without statements nothing is missed: 1."""
        return Fraction(self.covered, self.statements) if self.statements else Fraction(1)

    @property
    def percent(self) -> str:
        """As Go prints it, with one decimal; but 100.0 and 0.0 only when that is exact."""
        return percent(self.covered, self.statements)


@dataclass(frozen=True)
class Summary:
    """What was covered."""

    packages: list[Tally]

    @property
    def statements(self) -> int:
        """Of all packages."""
        return self.total.statements

    @property
    def covered(self) -> int:
        """Statements that were run."""
        return self.total.covered

    @property
    def percent(self) -> str:
        """Of all packages."""
        return self.total.percent

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
