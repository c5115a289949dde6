"""Charts of points and lines, and those of the docs."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import docs_charts
from paragon_archs.evaluation.plots import Series, chart


def texts(svg: str) -> dict[str, list[tuple[str, ...]]]:
    """Text -> where it stands, as written in the file."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        place = tuple(node.get(k, "") for k in ("x", "y", "transform"))
        found.setdefault("".join(node.itertext()), []).append(place)
    return found


def test_chart_is_an_svg_of_its_points():
    pytest.importorskip("matplotlib")
    points = Series("both", [(0.1, 30.0), (100.0, 31.0)], ["a & b", "two"])
    svg = chart([points], "title", "MP/s", "dB", logarithmic_x=True)
    assert {"a & b", "two", "both", "title", "MP/s", "dB"} <= set(texts(svg))
    assert svg == chart([points], "title", "MP/s", "dB", logarithmic_x=True)
    # Labels of near points do not cover each other.
    close = Series("", [(1, 1), (1.2, 1.01), (9, 9)], ["a" * 20] * 3)
    places = texts(chart([close], "t", "x", "y"))["a" * 20]
    assert len(set(places)) == 3
    curve = chart([Series("", [(0, 1), (1, 1)], line=True)], "t", "x", "y")
    assert "stroke-linecap" in curve
    with pytest.raises(ValueError, match="at least one point"):
        chart([], "t", "x", "y")
    with pytest.raises(ValueError, match="above 0"):
        chart([Series("", [(0.0, 1.0)])], "t", "x", "y", logarithmic_x=True)


@pytest.mark.parametrize("scale", [2, 4])
def test_charts_of_the_docs_are_those_of_their_tables(root, scale):
    pytest.importorskip("matplotlib")
    rows = docs_charts.tables((root / "docs" / "results.md").read_text())[scale]
    file = (root / "docs" / f"quality_x{scale}.svg").read_text()
    # Labels, not places: another matplotlib draws a little otherwise.
    assert set(texts(file)) == set(texts(docs_charts.draw(rows, scale)))
    timed = {r["model"] for r in rows if r["MP/s"] != "-"}
    assert timed and timed <= set(texts(file))
