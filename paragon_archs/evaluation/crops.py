"""A picture of crops side by side: the original, then each method."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_LINE = 22  # height of a caption in pixels
_GAP = 4


def hardest_window(image: Tensor, reference: Tensor, side: int) -> tuple[int, int]:
    """Returns (top, left) of the window where `image` misses `reference` most.

    Args:
        image: (3, H, W), a plain upscaling such as the bicubic one.
        reference: (3, H, W), the original.
        side: Side of the window in pixels, at most H and W.
    """
    error = (image.double() - reference.double()).square().mean(0)[None, None]
    # A step of a quarter window is fine enough for a picture.
    step = max(1, side // 4)
    means = F.avg_pool2d(error, side, step)[0, 0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row * step, column * step


def crop_sheet(
    rows: Sequence[Sequence[tuple[str, Tensor]]], side: int, zoom: int
) -> Image.Image:
    """Returns a sheet: one row per image, one captioned crop per column.

    Args:
        rows: Per image, (caption, 8-bit crop (3, side, side)) from left to right; a
            line feed in a caption starts its second line.
        side: Side of the crops in pixels.
        zoom: Factor of enlargement, nearest neighbor: pixels stay what they are.
    """
    cell = side * zoom
    lines = 1 + max(caption.count("\n") for row in rows for caption, _ in row)
    columns = max(map(len, rows))
    width = columns * (cell + _GAP) + _GAP
    height = len(rows) * (cell + lines * _LINE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for y, row in enumerate(rows):
        top = _GAP + y * (cell + lines * _LINE + _GAP)
        for x, (caption, crop) in enumerate(row):
            left = _GAP + x * (cell + _GAP)
            array = crop.permute(1, 2, 0).byte().numpy()
            picture = Image.fromarray(array).resize(
                (cell, cell), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (left, top))
            draw.multiline_text((left + 2, top + cell + 2), caption, "black", font)
    return sheet
