"""What a benchmark shows: charts, sheets of crops, pages with whole pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from ..utils.files import atomic_write
from .comparison import MEASURES, compare, to_pixels
from .crops import crop_sheet, hardest_window
from .measures import luma, psnr, shave
from .page import Entry, render, write
from .plots import Series, chart
from .protocols import Protocol, TestSet
from .quality import Method, bicubic, upscaled
from .tables import Row

SIDE, ZOOM = 64, 3  # of the crops in the picture


def charts(
    folder: Path,
    means: Sequence[Row],
    published: dict[tuple[str, int], list[tuple[float, float, str]]],
    about: str,
) -> None:
    """Writes `chart_<set>_x<scale>.svg`: the first measure against the speed.

    Args:
        folder: Where to.
        means: Rows of averages with speeds.
        published: By (set, scale): (speed measured, PSNR published, name) of others.
        about: The input that speeds were measured on.
    """
    for key in dict.fromkeys((row["set"], row["scale"]) for row in means):
        rows = [r for r in means if (r["set"], r["scale"]) == key and "mp_per_s" in r]
        column = "psnr_y" if "psnr_y" in rows[0] else "psnr_rgb"
        points = [(r["mp_per_s"], r[column], r["model"]) for r in rows]
        drawn = [Series("", [(x, y)], [name]) for x, y, name in points]
        if others := published.get(key, []):
            spots, names = [(x, y) for x, y, _ in others], [n for *_, n in others]
            drawn.append(Series("PSNR published, speed measured", spots, names))
        picture = chart(
            drawn,
            f"{key[0]}, scale {key[1]}",
            f"output megapixels per second ({about})",
            f"{column.upper().replace('_', '-')} in dB",
            logarithmic_x=True,
        )
        with atomic_write(folder / f"chart_{key[0]}_x{key[1]}.svg") as temporary:
            temporary.write_text(picture)


def _pairs(
    sets: Sequence[TestSet], scale: int, protocol: Protocol, count: int
) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """Yields set, picture, LR and HR of the first `count` pictures of each set."""
    for one in sets:
        for index in range(min(count, len(one.images))):
            low, high = one.pair(index, scale, protocol)
            yield one.name, one.images[index].stem, low, high


def pages(
    folder: Path,
    sets: Sequence[TestSet],
    methods: Sequence[Method],
    protocol: Protocol,
    count: int,
) -> None:
    """Writes `compare_x<scale>.html`: whole pictures of every method, and originals."""
    for scale in sorted({m.scale for m in methods}):
        scenes = []
        for one, name, low, high in _pairs(sets, scale, protocol, count):
            entries = [
                Entry(m.name, to_pixels(upscaled(m, low)))
                for m in methods
                if m.scale == scale
            ]
            original = Entry("original", to_pixels(high))
            scenes.append(compare(f"{one} {name}", entries, original, border=scale))
        title = f"Scale {scale}: {', '.join(one.name for one in sets)}"
        write(folder / f"compare_x{scale}.html", render(title, scenes, MEASURES))


def crop_pictures(
    folder: Path,
    sets: Sequence[TestSet],
    methods: Sequence[Method],
    protocol: Protocol,
    count: int,
) -> None:
    """Writes `crops_x<scale>.png`: the windows that bicubic misses most."""
    for scale in sorted({c.scale for c in methods}):
        rows = []
        for one, name, low, high in _pairs(sets, scale, protocol, count):
            if min(high.shape[-2:]) < SIDE:
                continue
            plain = upscaled(bicubic(scale), low)
            top, left = hardest_window(plain, high, SIDE)
            window = (..., slice(top, top + SIDE), slice(left, left + SIDE))
            row = [(f"{one}\n{name[:20]}", high[window])]
            for c in (c for c in methods if c.scale == scale):
                out = upscaled(c, low)
                a, b = (shave(luma(i.double()), scale) for i in (out, high))
                row.append((f"{c.name[:24]}\n{psnr(a, b):.2f} dB", out[window]))
            rows.append(row)
        if rows:
            with atomic_write(folder / f"crops_x{scale}.png") as temporary:
                crop_sheet(rows, SIDE, ZOOM).save(temporary, optimize=True)
