"""Cobertura's XML (coverage-04.dtd), for GitLab, Jenkins, diff-cover: lines by class.

A class is a file, named by its path in the repository; the one `source` is the repository. Go's
counters know no branches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from pytest_kindcov.report.model import Report, Source

_DTD = "https://raw.githubusercontent.com/cobertura/web/master/htdocs/xml/coverage-04.dtd"


def content(report: Report, _flags: frozenset[str]) -> bytes:
    """The file. Its figures are of lines; Go's own are of statements."""
    ran = (report.lines.hits > 0).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(ran)])

    def covered(file: Source) -> tuple[int, int]:
        first, last = file.lines.start, file.lines.stop
        return int(sums[last] - sums[first]), last - first

    packages: dict[str, list[Source]] = {}
    for file in report.files:
        packages.setdefault(file.package, []).append(file)
    total = int(sums[-1]), len(ran)
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<!DOCTYPE coverage SYSTEM "{_DTD}">\n',
        f"<coverage {_rates(*total)} lines-covered={quoteattr(str(total[0]))}"
        f' lines-valid="{total[1]}" branches-covered="0" branches-valid="0"'
        f' version="pytest-kindcov" timestamp="{int(report.time * 1000)}">\n',
        "<!-- Lines; in statements, as Go counts them, it is"
        f" {report.total.covered} of {report.total.statements}. -->\n",
        f"<sources><source>{escape(shown(str(report.root)))}</source></sources>\n<packages>\n",
    ]
    for name, files in sorted(packages.items()):
        both = [covered(file) for file in files]
        rates = _rates(sum(have for have, _ in both), sum(all_ for _, all_ in both))
        parts.append(f"<package name={quoteattr(name)} {rates}>\n<classes>\n")
        for file, numbers in zip(files, both, strict=True):
            parts += _class(report, file, numbers)
        parts.append("</classes>\n</package>\n")
    parts.append("</packages>\n</coverage>\n")
    return "".join(parts).encode()


def _class(report: Report, file: Source, numbers: tuple[int, int]) -> list[str]:
    lines = report.lines_of(file)
    pairs = zip(lines.number.tolist(), lines.hits.tolist(), strict=True)
    return [
        f"<class name={quoteattr(file.shown.rpartition('/')[2])}"
        f" filename={quoteattr(file.shown)} {_rates(*numbers)}>\n<methods/>\n<lines>\n",
        "".join([f'<line number="{number}" hits="{hits}"/>\n' for number, hits in pairs]),
        "</lines>\n</class>\n",
    ]


def _rates(covered: int, lines: int) -> str:
    """Attributes that every level must have. 1 and 0 only when that is exact."""
    if covered >= lines:
        rate = "1"
    else:
        rate = f"{max(1, covered * 10**6 // lines) / 10**6:.6g}" if covered else "0"
    return f'line-rate="{rate}" branch-rate="0" complexity="0"'
