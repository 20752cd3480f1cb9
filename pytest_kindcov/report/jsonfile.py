"""JSON of our own: all figures, verdicts and what may mislead, a line for each file and package.

`format` is counted up when a key changes its meaning. What is in percent is text, as it is printed;
`covered` of `statements` is exact.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_kindcov.report.model import Previous
from pytest_kindcov.report.tally import Tally
from pytest_kindcov.report.texts import runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction
    from pathlib import Path

    from pytest_kindcov.report.model import Gate, Report, Shares, Source

FORMAT = 1


def content(report: Report, _flags: frozenset[str]) -> bytes:
    """The file."""
    value: dict[str, Any] = {
        "format": FORMAT,
        "time": round(report.time, 3),
        "title": report.title,
        "passed": report.passed,
        "mode": report.profile.mode.name.lower(),
        "total": _figures(report.total),
        "gates": [_gate(gate) for gate in report.gates],
        "packages": {tally.name: _figures(tally) for tally in report.packages},
        "files": {file.name: _file(report, file) for file in report.files},
        "left_out": {
            one.tally.name: {**_figures(one.tally), "why": one.why} for one in report.left_out
        },
        "programs": [
            {
                "hash": program.hash,
                "mode": program.mode,
                "packages": program.packages,
                "functions": program.functions,
                "units": program.units,
                "counter_files": program.files,
            }
            for program in report.programs
        ],
        "containers": [
            {
                "name": container.name,
                "node": container.node,
                "image": container.image,
                "verdict": container.verdict,
                "text": container.text,
                "loses": container.loses,
                "allowed": container.allowed,
                "programs": list(container.programs),
            }
            for container in report.containers
        ],
        "problems": [
            {"kind": issue.kind, "name": issue.name, "reason": issue.reason}
            for issue in report.issues
        ],
        "phases": [
            {"name": phase.name, "begin": round(phase.begin, 3), "seconds": round(phase.seconds, 3)}
            for phase in report.phases
        ],
    }
    if report.sides is not None:
        value["run_by"] = {row.name: _shares(row) for row in report.shares()}
    if report.patch is not None:
        value["patch"] = {
            "since": report.patch.against,
            **_figures(report.patch.tally, "lines"),
            "files": {
                file.path: {"covered": _runs(file.covered), "missing": _runs(file.missed)}
                for file in report.patch.files
            },
            "unknown": list(report.patch.unknown),
        }
    if report.previous is not None:
        value["previous"] = {
            "time": report.previous.time,
            **_figures(report.previous.tally),
        }
    return _text(value).encode()


def previous(path: Path) -> Previous | None:
    """The total that an earlier run wrote; None if there is no such file, or it is another's."""
    try:
        value = json.loads(path.read_bytes())
        total = value["total"]
        tally = Tally("TOTAL", int(total["statements"]), int(total["covered"]))
        when = float(value["time"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    sound = 0 <= tally.covered <= tally.statements and 0 <= when < 1 << 33
    return Previous(tally, when) if sound else None


def _figures(tally: Tally, what: str = "statements") -> dict[str, int | str]:
    return {
        what: tally.statements,
        "covered": tally.covered,
        "percent": tally.percent.rstrip("%"),
    }


def _file(report: Report, file: Source) -> dict[str, Any]:
    lines = report.lines_of(file)
    return {
        "path": file.path,
        "package": file.package,
        **_figures(file.tally),
        "generated": file.generated,
        "changed": file.changed,
        "missing": _runs(lines.number[lines.hits == 0].tolist()),
    }


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "kind": gate.kind,
        "name": gate.name,
        "minimum": _decimal(gate.minimum),
        "passed": gate.passed,
        "covered": gate.tally.covered,
        "of": gate.tally.statements,
        "text": gate.text,
    }


def _decimal(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def _shares(row: Shares) -> dict[str, int]:
    return {"both": row.both, "e2e": row.e2e, "unit": row.unit, "neither": row.neither}


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """First and last line of each run of lines."""
    return runs(numbers)


def _text(value: dict[str, Any]) -> str:
    """Every key on a line, and of long ones every part."""
    lines = []
    for key, part in value.items():
        name = json.dumps(key)
        if isinstance(part, dict) and key not in ("total", "previous") and part:
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in part.items())
            lines.append(f" {name}: {{\n  {inner}\n }}")
        elif isinstance(part, list) and part:
            inner = ",\n  ".join(map(json.dumps, part))
            lines.append(f" {name}: [\n  {inner}\n ]")
        else:
            lines.append(f" {name}: {json.dumps(part)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
