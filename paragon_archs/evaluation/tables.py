"""Tables of a benchmark: kept in a folder, continued from there, averaged, printed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..utils.files import atomic_write

KEYS = ("set", "scale", "model", "image")

Row = dict[str, Any]
"""Column -> a name, the scale, or a measured number."""


@dataclass
class Table:
    """Rows of a benchmark, kept in a folder and continued from there.

    Attributes:
        folder: Holds `images.csv` and `settings.json`.
        settings: What must be the same for rows to belong together.
        rows: One per set, scale, model and image.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def resume(self) -> None:
        """Takes over the rows that are there.

        Raises:
            ValueError: when they were made with other settings or other files.
        """
        file = self.folder / "settings.json"
        if not file.is_file():
            return
        stored = json.loads(file.read_text())
        shared = {k: v for k, v in stored.items() if k != "digests"}
        own = {k: v for k, v in self.settings.items() if k != "digests"}
        digests = {**stored["digests"], **self.settings["digests"]}
        if shared != own or any(digests[k] != v for k, v in stored["digests"].items()):
            raise ValueError(
                f"Expected the settings that {str(self.folder)!r} was begun with "
                f"({json.dumps(shared)}), but got {json.dumps(own)} or another file "
                "of the same name. Choose another --output."
            )
        self.settings["digests"] = digests
        with (self.folder / "images.csv").open(newline="") as opened:
            for row in csv.DictReader(opened):
                values = {k: float(v) for k, v in row.items() if k not in KEYS and v}
                keys = {k: row[k] for k in KEYS}
                self.rows.append({**keys, "scale": int(row["scale"]), **values})

    def has(self, name: str, scale: int, model: str, image: str) -> bool:
        """Whether a row is there already."""
        key = (name, scale, model, image)
        return any(tuple(row[k] for k in KEYS) == key for row in self.rows)

    def save(self) -> None:
        """Writes all rows; each file is whole or the one before."""
        columns = list(dict.fromkeys(k for row in self.rows for k in row))
        write_csv(self.folder / "images.csv", columns, self.rows)
        with atomic_write(self.folder / "settings.json") as temporary:
            temporary.write_text(json.dumps(self.settings, indent=1))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[dict[str, object]]
) -> None:
    """Writes rows as CSV; measured values keep six decimals."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, columns, restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()}
            )


def averages(rows: Sequence[Row]) -> list[Row]:
    """Returns one row per set, scale and model: the mean of each column.

    A column is averaged only where every image has it: a mean over fewer images than
    its neighbors' would not be comparable.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in KEYS[:3]), []).append(row)
    means = []
    for key, members in groups.items():
        mean: Row = dict(zip(KEYS[:3], key, strict=True))
        mean["images"] = len(members)
        for column in (k for k in members[0] if k not in KEYS):
            values = [m.get(column, math.nan) for m in members]
            if not any(math.isnan(v) for v in values):
                mean[column] = sum(values) / len(values)
        means.append(mean)
    return means


def markdown(means: Sequence[Row], parameters: dict[str, int]) -> str:
    """Returns the averages as a Markdown table."""
    columns = list(dict.fromkeys(k for row in means for k in row))
    columns = [c for c in columns if c not in (*KEYS, "images")]
    head = ["set", "scale", "model", "parameters", "images", *columns]
    lines = [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * 3 + " ---: |" * (len(head) - 3),
    ]
    for row in means:
        count = parameters.get(row["model"], 0)
        cells = [row["set"], f"x{row['scale']}", row["model"]]
        cells += [f"{count:,}" if count else "-", str(row["images"])]
        for column in columns:
            digits = 2 if "psnr" in column or column == "mp_per_s" else 4
            value = row.get(column)
            cells.append("-" if value is None else f"{value:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
