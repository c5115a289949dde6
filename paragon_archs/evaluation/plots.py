"""Charts as SVG text: no plotting package for two axes and a few marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#555555")
_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 36, 52


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: Its entry in the legend; empty for none.
        points: (x, y) pairs.
        labels: A text beside each point, or none.
        line: Whether the points are joined.
    """

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    line: bool = False


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round values inside [low, high], some five of them."""
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    else:
        step = 10 ** math.floor(math.log10((high - low) / 4))
        while (high - low) / step > 7:
            step *= 2 if (high - low) / step < 14 else 2.5
        first = math.ceil(low / step)
        values = [i * step for i in range(first, math.floor(high / step) + 1)]
    return [v for v in values if low <= v <= high]


def chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    logarithmic_x: bool = False,
) -> str:
    """Returns an SVG chart of points and lines.

    Args:
        series: What to draw; at least one point altogether.
        title: The head line.
        x_label: What the horizontal axis is, with its unit.
        y_label: What the vertical axis is, with its unit.
        logarithmic_x: Whether the horizontal axis is logarithmic (x > 0).

    Raises:
        ValueError: when there is no point, or x <= 0 on a logarithmic axis.
    """
    points = [p for s in series for p in s.points]
    if not points or (logarithmic_x and min(x for x, _ in points) <= 0):
        raise ValueError(
            "Expected at least one point, with x above 0 on a logarithmic axis, but "
            f"got {points[:3]!r}. Measure something first."
        )

    def along(value: float) -> float:
        return math.log10(value) if logarithmic_x else value

    xs, ys = [along(x) for x, _ in points], [y for _, y in points]
    pad_x, pad_y = (0.08 * ((max(v) - min(v)) or 1.0) for v in (xs, ys))
    x0, x1 = min(xs) - pad_x, max(xs) + pad_x
    y0, y1 = min(ys) - pad_y, max(ys) + pad_y

    def place(x: float, y: float) -> tuple[float, float]:
        across = (along(x) - x0) / (x1 - x0)
        up = (y - y0) / (y1 - y0)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    end_x, end_y = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(_LEFT + end_x) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text transform="translate(16 {(_TOP + end_y) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    low, high = (10**x0, 10**x1) if logarithmic_x else (x0, x1)
    for value in _ticks(low, high, logarithmic_x):
        x, _ = place(value, y0)
        parts.append(
            f'<path d="M{x} {_TOP}V{end_y}" stroke="#e4e4e4"/>'
            f'<text x="{x}" y="{end_y + 18}" text-anchor="middle">{value:,.6g}</text>'
        )
    for value in _ticks(y0, y1, False):
        _, y = place(points[0][0], value)
        parts.append(
            f'<path d="M{_LEFT} {y}H{end_x}" stroke="#e4e4e4"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.6g}</text>'
        )
    parts.append(
        f'<path d="M{_LEFT} {_TOP}V{end_y}H{end_x}" fill="none" stroke="#333"/>'
    )
    row = 0
    for index, one in enumerate(series):
        colour = _COLOURS[index % len(_COLOURS)]
        spots = [place(x, y) for x, y in one.points]
        if one.line:
            path = "L".join(f"{x} {y}" for x, y in spots)
            parts.append(
                f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
        else:
            parts += [
                f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>' for x, y in spots
            ]
        for (x, y), label in zip(spots, one.labels, strict=False):
            # To the left of a point on the right half, so that it stays inside.
            side, shift = ("end", -9) if x > _WIDTH / 2 else ("start", 9)
            parts.append(
                f'<text x="{x + shift}" y="{y + 4}" text-anchor="{side}">'
                f"{escape(label)}</text>"
            )
        if one.name:
            y = end_y - 14 - 18 * row
            row += 1
            parts.append(
                f'<circle cx="{end_x - 10}" cy="{y - 4}" r="5" fill="{colour}"/>'
                f'<text x="{end_x - 20}" y="{y}" text-anchor="end">{escape(one.name)}'
                "</text>"
            )
    return "\n".join([*parts, "</svg>", ""])
