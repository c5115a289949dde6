"""Resizing results to a wanted size."""

from __future__ import annotations

import numpy as np

from ..utils.optional import need
from .arrays import max_value, rounded


def wanted_size(
    size: tuple[int, int], to: tuple[int, int] | None, down: float | None
) -> tuple[int, int]:
    """Returns the width and height that a result of `size` is brought to.

    Args:
        size: Width and height.
        to: What it shall be, whatever it is.
        down: Factor that it is made smaller by.
    """
    if to is not None:
        return to
    width, height = (max(1, round(side / (down or 1))) for side in size)
    return width, height


def resized(
    pixels: np.ndarray, alpha: np.ndarray | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resizes with Lanczos (three lobes, widened when it makes smaller).

    Args:
        pixels: (H, W, 1 or 3), uint8, uint16 or float.
        alpha: (H, W) opacity; pixels are weighted with it.
        size: Width and height.
    """
    full = max_value(pixels.dtype)
    layers = pixels.astype(np.float32) / full
    if alpha is None:
        return rounded(_resize(layers, size), pixels.dtype), None
    opacity = alpha[..., None].astype(np.float32) / full
    resized = _resize(layers * opacity, size)
    cover = _resize(opacity, size).clip(0, 1)
    step = 0.5 / full
    np.divide(resized, cover, out=resized, where=cover >= step)
    return rounded(resized, pixels.dtype), rounded(cover[..., 0], pixels.dtype)


def _resize(layers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = need("PIL.Image", "resizing images", "pillow")
    parts = [
        image.fromarray(np.ascontiguousarray(layers[..., c])).resize(
            size, image.Resampling.LANCZOS
        )
        for c in range(layers.shape[2])
    ]
    return np.stack([np.asarray(part) for part in parts], axis=2)
