"""Charts of points and lines, drawn by matplotlib as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..utils.optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_SIZE = (7.2, 4.2)  # inches
_ROW = 0.25  # of a name beside the vertical axis
# Where a label may stand beside its point: offset in points, and what of it is there.
_PLACES = (
    ((8, 0), "left", "center"),
    ((-8, 0), "right", "center"),
    ((0, 8), "center", "bottom"),
    ((0, -8), "center", "top"),
    ((6, 7), "left", "bottom"),
    ((-6, -7), "right", "top"),
)
_STYLE = {
    "svg.fonttype": "none",  # letters stay letters, which screen readers can read
    "svg.hashsalt": "paragon_archs",  # the same chart is the same file
    "font.size": 10,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Series:
    """Points of one color.

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


def chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    y_label: str,
    logarithmic_x: bool = False,
    y_names: Sequence[str] = (),
) -> str:
    """Returns an SVG chart of points and lines.

    Args:
        series: What to draw; at least one point altogether.
        title: The head line.
        x_label: What the horizontal axis is, with its unit.
        y_label: What the vertical axis is, with its unit.
        logarithmic_x: Whether the horizontal axis is logarithmic (x > 0).
        y_names: What y = 0, 1, ... are called, where they are no numbers.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: when there is no point, or x <= 0 on a logarithmic axis.
    """
    points = [p for s in series for p in s.points]
    if not points or (logarithmic_x and min(x for x, _ in points) <= 0):
        raise ValueError(
            "Expected at least one point, with x above 0 on a logarithmic axis, but "
            f"got {points[:3]!r}. Measure something first."
        )
    matplotlib = need("matplotlib", "charts", "paragon-archs[plots]")
    figures = need("matplotlib.figure", "charts", "paragon-archs[plots]")
    with matplotlib.rc_context(_STYLE):
        height = max(_SIZE[1], _ROW * len(y_names) + 1)
        figure = figures.Figure((_SIZE[0], height), layout="constrained")
        axes = figure.add_subplot(
            title=title, xlabel=x_label, ylabel=y_label, axisbelow=True
        )
        axes.margins(0.1)
        for one in series:
            x, y = zip(*one.points, strict=True)
            axes.plot(x, y, "-" if one.line else "o", label=one.name or "_")
        if logarithmic_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        if y_names:
            axes.set_yticks(range(len(y_names)), y_names)
            figure.legend(loc="outside lower center", ncols=len(series))
        elif any(one.name for one in series):
            axes.legend()
        _write_labels(figure, axes, series)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _write_labels(figure: Figure, axes: Axes, series: Sequence[Series]) -> None:
    """Writes each label at the first place where it covers nothing."""
    figure.draw_without_rendering()
    inside = axes.get_window_extent()
    spots = [p for s in series for p in s.points]
    taken = [_around(axes.transData.transform(spot)) for spot in spots]
    for one in series:
        for spot, label in zip(one.points, one.labels, strict=False):
            note = axes.annotate(label, spot, (0, 0), textcoords="offset points")
            # The first place again where there is no room at all: the eye sorts it out.
            for offset, across, up in (*_PLACES, _PLACES[0]):
                note.set(position=offset, ha=across, va=up)
                box = note.get_window_extent()
                free = not any(box.overlaps(other) for other in taken)
                if free and inside.x0 <= box.x0 and box.x1 <= inside.x1:
                    break
            taken.append(note.get_window_extent())


def _around(spot: Iterable[float], half: float = 4) -> Bbox:
    """Returns the box, in pixels, that a point's mark covers."""
    boxes = need("matplotlib.transforms", "charts", "paragon-archs[plots]")
    x, y = spot
    return boxes.Bbox([[x - half, y - half], [x + half, y + half]])
