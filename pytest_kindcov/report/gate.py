"""Limits: one verdict from exact fractions, which is printed, written and made the exit code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_kindcov.report import globs
from pytest_kindcov.report.model import Gate
from pytest_kindcov.report.tally import Tally, percent
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindcov.report.model import Patch, Report, Source

FAIL_UNDER, WARN_UNDER, PATCH_UNDER = "fail-under", "warn-under", "patch-under"
_MINIMUM = re.compile(r"\d{1,3}(\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """A limit as it was asked for.

    Args:
        kind: FAIL_UNDER, WARN_UNDER or PATCH_UNDER.
        text: the minimum in percent, as it was given.
        glob: of packages, or, if it ends in `.go`, of files, each of which must have the minimum;
            "": the total must.

    """

    kind: str
    text: str
    glob: str = ""

    @property
    def minimum(self) -> Fraction:
        """In percent, exactly."""
        return Fraction(self.text)


def parse(kind: str, text: str) -> Rule:
    """Read `MIN` or `MIN:GLOB`.

    Raises:
        ValueError: it is not that.

    """
    number, _, glob = text.strip().partition(":")
    number = number.removesuffix("%").strip()
    if not _MINIMUM.fullmatch(number) or Fraction(number) > 100:
        raise ValueError("is not a percentage from 0 to 100")
    if glob and kind == PATCH_UNDER:
        raise ValueError("is for the whole patch: it has no glob")
    return Rule(kind, number, glob.strip())


def judge(report: Report, rules: Iterable[Rule]) -> tuple[Gate, ...]:
    """Hold a report against limits. Those for the patch are skipped where there is none."""
    gates = []
    for rule in rules:
        if rule.kind != PATCH_UNDER:
            gates.append(_judge(report, rule))
        elif report.patch is not None:
            gates.append(_patch(report.patch, rule))
    return tuple(gates)


def _judge(report: Report, rule: Rule) -> Gate:
    if rule.glob:
        files = rule.glob.endswith(".go")
        found = _files(report, rule.glob) if files else _packages(report, rule.glob)
        if not found:
            what = "file" if files else "package"
            text = f"no {what} is {shown(rule.glob)}, which must have {rule.text}%"
            return _gate(rule, Tally(rule.glob, 0, 0), False, text)
    else:
        found = [Tally("total", report.total.statements, report.total.covered)]
        if not report.total.statements:
            text = f"total has no statements, and must have {rule.text}% of them covered"
            return _gate(rule, found[0], False, text)
    worst = min(found, key=lambda tally: (tally.share, tally.name))
    under = sum(1 for tally in found if not _enough(tally, rule))
    text = f"{worst.name} {compared(worst, rule)}"
    if rule.glob:
        behind = f"and {under - 1} more " if under > 1 else ""
        text += f" ({behind}of {len(found)} that are {shown(rule.glob)})"
    return _gate(rule, worst, under == 0, text)


def _patch(patch: Patch, rule: Rule) -> Gate:
    tally = patch.tally
    if patch.unknown:
        text = "patch has lines of files that changed since the build: unknown"
        return _gate(rule, tally, False, text)
    if not tally.statements:
        return _gate(rule, tally, True, "patch has no lines with statements")
    text = f"patch {compared(tally, rule)}, {tally.covered} of {tally.statements} lines"
    return _gate(rule, tally, _enough(tally, rule), text)


def _gate(rule: Rule, tally: Tally, passed: bool, text: str) -> Gate:
    word = "PASS" if passed else "WARN" if rule.kind == WARN_UNDER else "FAIL"
    return Gate(rule.kind, tally.name, rule.minimum, tally, passed, f"{word} {text}")


def _enough(tally: Tally, rule: Rule) -> bool:
    return 100 * tally.share >= rule.minimum


def compared(tally: Tally, rule: Rule) -> str:
    """`91.1% >= 80%`: with as many digits as it takes to be true as it stands there."""
    share, enough = 100 * tally.share, _enough(tally, rule)
    sign = ">=" if enough else "<"
    # With one digit it is what stands everywhere else.
    text = percent(tally.covered, tally.statements).removesuffix("%")
    digits = 1
    while (Fraction(text) >= rule.minimum) != enough or (Fraction(text) == 100) != (share == 100):
        digits += 1
        text = fixed(share, digits)
    return f"{text}% {sign} {rule.text}%"


def fixed(number: Fraction, digits: int) -> str:
    """A number of at least 0 with so many decimals, rounded."""
    whole, rest = divmod(round(number * 10**digits), 10**digits)
    return f"{whole}.{rest:0{digits}}"


def _files(report: Report, glob: str) -> list[Tally]:
    return [
        Tally(file.shown, file.tally.statements, file.tally.covered)
        for file in report.files
        if globs.matches(glob, globs.file_names(file))
    ]


def _packages(report: Report, glob: str) -> list[Tally]:
    of: dict[str, list[Source]] = {}
    for file in report.files:
        of.setdefault(file.package, []).append(file)
    return [
        tally
        for tally in report.packages
        if globs.matches(glob, globs.package_names(of.get(tally.name, [])))
    ]
