"""Which shipped model suits the inputs, when none is named."""

from __future__ import annotations

import glob
import statistics
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..media.jpeg import jpeg_quality
from ..media.paths import IMAGE_SUFFIXES, find_images
from ..weights import default

LOOK_AT = 32  # images whose headers are read
FINE = 93  # JPEG quality from which a clean image's model is better


def choose(inputs: Sequence[str], scale: int) -> tuple[str, str]:
    """Returns the name of a shipped model and why it was chosen.

    One model runs on all inputs: that for JPEG where most of the images are such, and
    coarser than `FINE`.

    Args:
        inputs: Files, folders and patterns.
        scale: Upscaling factor.

    Raises:
        ValueError: when no shipped model has that scale.
    """
    qualities = [jpeg_quality(file) for file in islice(_images(inputs), LOOK_AT)]
    coarse = [q for q in qualities if q is not None and q < FINE]
    if 2 * len(coarse) <= len(qualities) or not coarse:
        return default(scale), ""
    quality = round(statistics.median(coarse))
    return default(scale, jpeg=True), f"JPEG of quality {quality}"


def _images(inputs: Sequence[str]) -> Iterator[Path]:
    for entry in inputs:
        files = [Path(entry)] if Path(entry).exists() else map(Path, glob.glob(entry))
        for file in files:
            if file.is_dir():
                try:
                    yield from find_images(file)
                except FileNotFoundError:
                    continue  # videos alone, or nothing: the plan reports what is wrong
            elif file.suffix.lower() in IMAGE_SUFFIXES:
                yield file
