"""Pictures of full contrast, drawn: what photographs do not show a network.

A network whose features are multiplied with each other (the gates of ParagonSR and of
the stream tier) is a polynomial: trained on photographs alone it answers a white dot on
black, or the edge of a letter, with hundreds of times the range of a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?()[]#%&"


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Returns a colour: black or white, a corner of the cube, or any."""
    kind = rng.random()
    if kind < 0.4:
        return (255, 255, 255) if rng.random() < 0.5 else (0, 0, 0)
    if kind < 0.7:
        r, g, b = rng.integers(2, size=3) * 255
    else:
        r, g, b = rng.integers(256, size=3)
    return int(r), int(g), int(b)


def _pair(rng: np.random.Generator) -> np.ndarray:
    """Returns two colours (2, 3); in half of the cases opposite ones."""
    first = np.array(_colour(rng))
    return np.stack((first, 255 - first if rng.random() < 0.5 else _colour(rng)))


def _shapes(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Boxes, ellipses, lines, dots and letters over each other, as on a screen."""
    picture = Image.new("RGB", (side, side), _colour(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(50):
        x, y = (int(v) for v in rng.integers(side, size=2))
        w, h = (int(v) for v in cell * rng.integers(1, 24, size=2))
        fill, width = _colour(rng), int(cell * rng.integers(1, 4)) // 2 + 1
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
            draw.text((x - side // 3, y), text, fill, ImageFont.load_default(size))
    return np.array(picture)


def _noise(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Squares of random colours, sometimes two alone, sparse or dense."""
    count = -(-side // cell)
    if rng.random() < 0.5:
        chosen = rng.random((count, count, 1)) < rng.choice([0.02, 0.1, 0.5])
        squares = np.where(chosen, *_pair(rng))
    else:
        squares = rng.integers(256, size=(count, count, 3))
    return squares.repeat(cell, 0).repeat(cell, 1)[:side, :side].astype(np.uint8)


def _stripes(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """Stripes, or a chequered pattern, of two colours in any direction."""
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
        scale: Factor by which it will be shrunk; details are up to 4 times as large,
            and many just as large, which become single pixels.
    """
    kind = int(rng.integers(3))
    cell = int(rng.integers(1, 4 * scale + 1))
    if kind == 0:
        pixels = _shapes(rng, side, cell)
    else:
        # What explodes first: patterns as fine as the shrunk picture shows them.
        cell = scale if rng.random() < 0.5 else cell
        pixels = (_noise if kind == 1 else _stripes)(rng, side, cell)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def hardened(image: Tensor) -> Tensor:
    """Returns a photograph (C, H, W), uint8: 255 above a channel's median, else 0."""
    middle = image.flatten(1).median(1).values[:, None, None]
    return (image > middle).to(torch.uint8) * 255
