"""How strongly a JPEG file was compressed."""

from __future__ import annotations

import struct
from pathlib import Path

from ..utils.optional import need

STANDARD_MEAN = 57.625  # of the luma table in annex K of the JPEG standard


def jpeg_quality(file: str | Path) -> int | None:
    """Returns the quality that libjpeg would name, 1 to 100; None for other files.

    Estimated from the luma quantization table in the file's header; other encoders'
    tables give the quality of libjpeg's that are as coarse.
    """
    plugin = need("PIL.JpegImagePlugin", "JPEG images", "pillow")
    try:
        # Not by `Image.open`, which refuses large ones.
        with plugin.JpegImageFile(file) as opened:
            tables = getattr(opened, "quantization", None)
    except (OSError, ValueError, SyntaxError, struct.error, IndexError):
        return None
    if not tables:
        return None
    luma = tables[min(tables)]
    percent = 100 * sum(luma) / len(luma) / STANDARD_MEAN
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return max(1, min(100, round(quality)))
