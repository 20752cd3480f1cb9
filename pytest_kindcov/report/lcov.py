"""LCOV's format (geninfo(1)), for genhtml, Codecov and editors: the lines of every file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Report


def content(report: Report, _flags: frozenset[str]) -> bytes:
    """The file. Its figures are of lines; Go's own are of statements."""
    parts = []
    for file in report.files:
        lines = report.lines_of(file)
        pairs = zip(lines.number.tolist(), lines.hits.tolist(), strict=True)
        parts.append(f"TN:\nSF:{file.shown}\n")
        parts.append("".join([f"DA:{number},{hits}\n" for number, hits in pairs]))
        covered = int((lines.hits > 0).sum())
        parts.append(f"LF:{len(lines)}\nLH:{covered}\nend_of_record\n")
    return "".join(parts).encode()
