"""Pictures of full contrast, drawn: what photographs do not show a network.

A network whose features are multiplied with each other (the gates of ParagonSR and of
the stream tier) is a polynomial: trained on photographs alone it answers a white dot on
black, or the edge of a letter, with hundreds of times the range of a picture.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?()[]#%&"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    """Returns a color: black or white, a corner of the cube, or any."""
    kind = rng.random()
    if kind < 0.4:
        return (255, 255, 255) if rng.random() < 0.5 else (0, 0, 0)
    if kind < 0.7:
        r, g, b = rng.integers(2, size=3) * 255
    else:
        r, g, b = rng.integers(256, size=3)
    return int(r), int(g), int(b)


def _pair(rng: np.random.Generator) -> np.ndarray:
    """Returns two colors (2, 3); in half of the cases opposite ones."""
    first = np.array(_color(rng))
    return np.stack((first, 255 - first if rng.random() < 0.5 else _color(rng)))


def _shapes(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Boxes, ellipses, lines, dots and letters over each other, as on a screen."""
    picture = Image.new("RGB", (side, side), _color(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(50):
        x, y = (int(v) for v in rng.integers(side, size=2))
        w, h = (int(v) for v in cell * rng.integers(1, 24, size=2))
        fill, width = _color(rng), int(cell * rng.integers(1, 4)) // 2 + 1
        kind = rng.integers(6)
        if kind == 0:
            draw.rectangle((x, y, x + w, y + h), fill)
        elif kind == 1:
            draw.ellipse((x, y, x + w, y + h), fill)
        elif kind == 2:
            draw.line((x, y, x + 2 * w - 24 * cell, y + 2 * h - 24 * cell), fill, width)
        elif kind == 3:
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill)
        else:
            size = int(cell * rng.integers(6, 16))
            text = "".join(rng.choice(list(LETTERS), 12))
            draw.text((x - side // 3, y), text, fill, _font(size))
    return np.array(picture)


def _noise(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Squares of random colors, sometimes two alone, sparse or dense."""
    count = -(-side // cell)
    if rng.random() < 0.5:
        chosen = rng.random((count, count, 1)) < rng.choice([0.02, 0.1, 0.5])
        squares = np.where(chosen, *_pair(rng))
    else:
        squares = rng.integers(256, size=(count, count, 3))
    return squares.repeat(cell, 0).repeat(cell, 1)[:side, :side].astype(np.uint8)


def _stripes(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Stripes, or a checkered pattern, of two colors in any direction."""
    y, x = np.mgrid[:side, :side]
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    across = np.cos(angle) * x + np.sin(angle) * y
    along = np.cos(angle) * y - np.sin(angle) * x
    on = (across // cell) % 2 == 0
    if rng.random() < 0.5:
        on = on ^ ((along // cell) % 2 == 0)
    return np.where(on[..., None], *_pair(rng)).astype(np.uint8)


def drawing(rng: np.random.Generator, side: int, scale: int) -> Tensor:
    """Returns a drawn picture (3, side, side), uint8.

    Args:
        rng: Where its shapes come from.
        side: Its side in pixels.
        scale: Factor of the later downscaling; details are up to 4 times as large,
            and many just as large, which become single pixels.
    """
    kind = int(rng.integers(3))
    cell = int(rng.integers(1, 4 * scale + 1))
    if kind == 0:
        pixels = _shapes(rng, side, cell)
    else:
        # What explodes first: patterns as fine as the downscaled picture shows them.
        cell = scale if rng.random() < 0.5 else cell
        pixels = (_noise if kind == 1 else _stripes)(rng, side, cell)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def page(rng: np.random.Generator, side: int, scale: int) -> Tensor:
    """Returns lines of text on one color (3, side, side), uint8; some are nearly empty.

    Args:
        rng: Where its letters come from.
        side: Its side in pixels.
        scale: Factor of the later downscaling; letters are then 6 to 16 pixels high.
    """
    ground, ink = (tuple(int(v) for v in color) for color in _pair(rng))
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    size = int(scale * rng.integers(6, 17))
    for top in range(int(rng.integers(size)), side, 2 * size):
        if rng.random() < 0.6:
            text = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 24))))
            draw.text((int(rng.integers(-size, side)), top), text, ink, _font(size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
