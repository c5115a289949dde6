"""One HTML file that compares pictures: no network, no server, opens from a disk."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...utils.files import atomic_write

_HERE = Path(__file__).parent
_THUMBNAIL = (128, 96)


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        key: Its name in `Entry.measures`.
        label: Its heading.
        better: `higher` or `lower`.
        digits: After the point.
    """

    key: str
    label: str
    better: str = "higher"
    digits: int = 2


@dataclass(frozen=True)
class Entry:
    """One picture of a set.

    Attributes:
        name: What the page calls it.
        pixels: (H, W, 3), uint8.
        measures: Values by `Measure.key`; those that are missing are left open.
    """

    name: str
    pixels: np.ndarray
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Set:
    """Pictures of one scene.

    Attributes:
        name: What the list calls it.
        entries: At least two.
        against: Name of the picture that the others are measured against.
        difference: What the list is sorted by, largest first; None: by name.
        shown: Indices of the two pictures that are shown at first.
    """

    name: str
    entries: Sequence[Entry]
    against: str = ""
    difference: float | None = None
    shown: tuple[int, int] = (0, 1)


def render(title: str, sets: Sequence[Set], measures: Sequence[Measure]) -> str:
    """Returns the page as HTML.

    Args:
        title: Its heading.
        sets: What can be chosen; one or more.
        measures: Columns of the table, in order.
    """
    data = {
        "measures": [
            {"key": m.key, "label": m.label, "better": m.better, "digits": m.digits}
            for m in measures
        ],
        "sets": [describe(one) for one in sets],
    }
    return fill(
        "page.html",
        head=head(html.escape(title), "page.css"),
        title=html.escape(title),
        about="Made by paragon compare. Pictures are stored without loss.",
        data=script_data(data),
    )


def fill(template: str, **parts: str) -> str:
    """Returns a template of this folder with `{{name}}` replaced.

    Args:
        template: Its file name.
        **parts: HTML by name; `theme_js`, `viewer_html` and the like name files beside
            it.
    """
    text = (_HERE / template).read_text(encoding="utf-8")

    # In one pass: what is put in is not searched again.
    def part(found: re.Match[str]) -> str:
        name = found[1]
        if name in parts:
            return parts[name]
        return (_HERE / name.replace("_", ".")).read_text(encoding="utf-8")

    return re.sub(r"\{\{(\w+)\}\}", part, text)


def head(title: str, *styles: str) -> str:
    """Returns a page's head, with style sheets out of this folder."""
    css = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in styles)
    return fill("head.html", title=title, css=css)


def script_data(value: object) -> str:
    """Returns a value as JSON that a script element may hold."""
    # "<" would end the element early.
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def write(path: str | Path, page: str) -> None:
    """Writes a page; the file is whole or not there."""
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def describe(one: Set, quality: int | None = None) -> dict[str, object]:
    """Returns a set as the viewer's script takes it.

    Args:
        one: The set.
        quality: Of JPEG; without it pictures are stored without loss.
    """
    kind, choices = ("JPEG", {"quality": quality, "subsampling": 0})
    if quality is None:
        kind, choices = ("PNG", {"optimize": False})
    return {
        "name": one.name,
        "shown": list(one.shown),
        "against": one.against,
        "difference": one.difference,
        "thumbnail": _thumbnail(one.entries[0].pixels),
        "pictures": [
            {
                "name": entry.name,
                "width": entry.pixels.shape[1],
                "height": entry.pixels.shape[0],
                "src": _source(Image.fromarray(entry.pixels), kind, **choices),
                # JSON has no infinity, which equal pictures have as PSNR.
                "measures": {
                    key: value if math.isfinite(value) else None
                    for key, value in entry.measures.items()
                },
            }
            for entry in one.entries
        ],
    }


def _thumbnail(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail(_THUMBNAIL)
    return _source(image, "JPEG", quality=80)


def _source(image: Image.Image, kind: str, **options: object) -> str:
    """Returns an image as a data URL, which a page may hold."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"
