"""Draws `docs/quality_x2.svg` and `docs/quality_x4.svg` from the tables of the docs.

The tables are what `paragon benchmark quality --published --speed` wrote on an idle
machine. Run it after they change: `python scripts/benchmarks/docs_charts.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from paragon_archs.evaluation.plots import Series, chart
from paragon_archs.utils.files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
SET = "Set14"


def tables(text: str) -> dict[int, list[dict[str, str]]]:
    """Returns the rows under `## Scale N`, as column -> cell, by scale."""
    found = {}
    parts = re.findall(r"^## Scale (\d)\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    for scale, part in parts:
        lines = [x.strip("| ").split(" | ") for x in part.splitlines() if x[:1] == "|"]
        head, _, *rows = lines
        cells = [[c.strip("*` ") for c in row] for row in rows]
        found[int(scale)] = [dict(zip(head, row, strict=True)) for row in cells]
    return found


def draw(rows: list[dict[str, str]], scale: int) -> str:
    """Returns the chart of a table: PSNR-Y against megapixels a second, as SVG."""
    timed = [r for r in rows if "-" not in (r["MP/s"], r[SET])]
    ours = [r for r in timed if r["from"] == "here"]
    series = [Series("", [_point(r)], [r["model"]]) for r in ours]
    others = [r for r in timed if r["from"] != "here"]
    names = [r["model"] for r in others]
    points = [_point(r) for r in others]
    series.append(Series("PSNR published, speed measured", points, names))
    return chart(
        series,
        f"{SET}, scale {scale}",
        "output megapixels per second (LR of 256 x 256)",
        "PSNR-Y in dB",
        logarithmic_x=True,
    )


def _point(row: dict[str, str]) -> tuple[float, float]:
    return float(row["MP/s"]), float(row[SET])


def main() -> int:
    """Writes a chart for every scale of `docs/results.md`."""
    for scale, rows in tables((ROOT / "docs" / "results.md").read_text()).items():
        with atomic_write(ROOT / "docs" / f"quality_x{scale}.svg") as temporary:
            temporary.write_text(draw(rows, scale))
    return 0


if __name__ == "__main__":
    sys.exit(main())
