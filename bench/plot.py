"""Curves as SVG, both axes logarithmic: what is linear rises as the thin lines do.

Written by hand: a plotting library is a hundred times the size of what these few lines need.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Curve

WIDTH, HEIGHT = 780, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 310, 36, 44
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989")
_STYLE = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-size:14px;font-weight:bold}"
    ".g{stroke:#8c959f;stroke-opacity:.3}.l{stroke:#8c959f;stroke-opacity:.5;stroke-dasharray:2 4}"
    ".c{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}}"
)


def plot(curves: Sequence[Curve]) -> str:
    """One picture of curves that grow with the same thing; each with its least and greatest."""
    counts = [count for curve in curves for count, _ in curve.points]
    values = [value for curve in curves for _, found in curve.points for value in found]
    low, high = _decades(values)
    left, right = math.log10(min(counts)), math.log10(max(counts))

    def x(count: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(count) - left) / (right - left)

    def y(value: float) -> float:
        span = (math.log10(value) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * span

    of = curves[0].of
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Growth with {escape(of)}</title><style>{_STYLE}</style>",
        f'<text class="t" x="{LEFT}" y="20">Growth with {escape(of)}</text>',
        f'<clipPath id="a"><path d="M{LEFT} {TOP}H{WIDTH - RIGHT}V{HEIGHT - BOTTOM}H{LEFT}z"/>'
        "</clipPath>",
    ]
    for decade in range(low, high + 1):
        at = y(10.0**decade)
        out.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        out.append(
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>'
        )
        # As one that is linear rises.
        end = 10 ** (decade + right - left)
        line = f"M{x(min(counts)):.1f} {at:.1f}L{x(max(counts)):.1f} {y(end):.1f}"
        out.append(f'<path class="l" clip-path="url(#a)" d="{line}"/>')
    out += [
        f'<text x="{x(count):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count:,}</text>'
        for count in sorted(set(counts))
    ]
    out.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(of)}</text>"
    )
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in curve.medians)
        out.append(f'<polyline class="c" stroke="{colour}" points="{points}"/>')
        for count, found in curve.points:
            span = f"M{x(count):.1f} {y(min(found)):.1f}V{y(max(found)):.1f}"
            out.append(f'<path class="c" stroke="{colour}" stroke-linecap="round" d="{span}"/>')
            middle = dict(curve.medians)[count]
            out.append(f'<circle cx="{x(count):.1f}" cy="{y(middle):.1f}" r="3" fill="{colour}"/>')
        at = TOP + 18 * number + 6
        beside = WIDTH - RIGHT + 12
        out.append(f'<path class="c" stroke="{colour}" d="M{beside} {at}h16"/>')
        label = escape(f"{curve.figure}, {curve.unit}")
        out.append(f'<text x="{beside + 22}" y="{at + 4}">{label}</text>')
    return "\n".join([*out, "</svg>", ""])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
