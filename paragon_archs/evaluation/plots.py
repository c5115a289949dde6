"""Charts as SVG text: no plotting package for two axes and a few marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#555555")
_WIDTH, _HEIGHT = 720, 420
_LETTER = 6.6  # mean width of a letter, to tell what a text covers
_Box = tuple[float, float, float, float]  # left, top, right, bottom
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


def _label_place(
    spot: tuple[float, float], label: str, taken: list[_Box]
) -> tuple[str, float, float]:
    """Returns (anchor, x, y) of a label where it covers nothing, and takes the room."""
    x, y = spot
    wide = _LETTER * len(label)
    choices = [
        ("start", x + 9, y + 4, x + 9),
        ("end", x - 9, y + 4, x - 9 - wide),
        ("middle", x, y - 10, x - wide / 2),
        ("middle", x, y + 19, x - wide / 2),
        ("start", x + 5, y - 10, x + 5),
        ("end", x - 5, y + 19, x - 5 - wide),
    ]

    def is_free(choice: tuple[str, float, float, float]) -> bool:
        left, top, right, bottom = _box(choice, wide)
        inside = left > _LEFT and right < _WIDTH - _RIGHT
        return inside and not any(
            left < t[2] and t[0] < right and top < t[3] and t[1] < bottom for t in taken
        )

    # Where there is no room at all, the first place, and the eye has to sort it out.
    best = next(filter(is_free, choices), choices[0])
    taken.append(_box(best, wide))
    return best[0], round(best[1], 1), round(best[2], 1)


def _box(choice: tuple[str, float, float, float], wide: float) -> _Box:
    """Returns what a label of a width covers at (anchor, x, baseline, left)."""
    _, _, base, left = choice
    return left, base - 11, left + wide, base + 3


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
    legend = end_x
    taken = [
        (x - 5, y - 5, x + 5, y + 5)
        for x, y in (place(*p) for one in series if not one.line for p in one.points)
    ]
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
        for spot, label in zip(spots, one.labels, strict=False):
            anchor, x, y = _label_place(spot, label, taken)
            parts.append(
                f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(label)}</text>'
            )
        if one.name:
            parts.append(
                f'<circle cx="{legend - 6}" cy="18" r="5" fill="{colour}"/>'
                f'<text x="{legend - 16}" y="22" text-anchor="end">{escape(one.name)}'
                "</text>"
            )
            legend -= 40 + _LETTER * len(one.name)
    return "\n".join([*parts, "</svg>", ""])
