"""Transparency: the colors that a network sees under it, and the range it keeps."""

from __future__ import annotations

import numpy as np

from .arrays import white

_STEPS = (32, 16, 8, 4, 2, 1)  # of the search; it finds seeds up to their sum away
_FAINT = 8 / 255  # opacity under which 8 bits do not hold a color
_RADIUS = 2  # pixels around one that its upscaled opacity may come from


def fill_clear(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives pixels that cannot be seen the color of the nearest one that can.

    What stands under clear pixels, usually black, would otherwise bleed into their
    neighbors. By jump flooding (Rong and Tan, 2006) up to 63 pixels away, which is
    beyond what networks look at near an edge; further off the mean color stands.

    Args:
        pixels: (H, W, C).
        alpha: (H, W) of the same dtype.
    """
    visible = alpha >= _FAINT * white(alpha.dtype)
    if visible.all():
        return pixels
    if not visible.any():
        visible = alpha > 0
        if not visible.any():
            return pixels
    places = np.indices(alpha.shape, dtype=np.int32)
    rows, columns = places[0], places[1]
    far = np.int32(2**15)
    seeds = [np.where(visible, at, -far) for at in places]
    distance = np.where(visible, np.float32(0), np.float32(np.inf))
    for step in _STEPS:
        for down in (-step, 0, step):
            for right in (-step, 0, step):
                if down or right:
                    _flood(seeds, distance, rows, columns, down, right)
    found = np.isfinite(distance)
    filled = np.empty_like(pixels)
    mean = pixels[visible].mean(axis=0)
    filled[...] = mean if pixels.dtype.kind == "f" else np.rint(mean)
    filled[found] = pixels[seeds[0][found], seeds[1][found]]
    return filled


def _flood(
    seeds: list[np.ndarray],
    distance: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    down: int,
    right: int,
) -> None:
    """Lets each pixel take the seed of the one at an offset where that is nearer."""
    height, width = distance.shape
    if abs(down) >= height or abs(right) >= width:
        return
    here = (
        slice(max(0, -down), height - max(0, down)),
        slice(max(0, -right), width - max(0, right)),
    )
    there = (
        slice(max(0, down), height + min(0, down)),
        slice(max(0, right), width + min(0, right)),
    )
    row, column = (seed[there] for seed in seeds)
    off = [(row - rows[here]).astype(np.float32), (column - columns[here])]
    candidate = off[0] ** 2 + off[1].astype(np.float32) ** 2
    candidate[row < 0] = np.inf
    nearer = candidate < distance[here]
    distance[here][nearer] = candidate[nearer]
    for seed, new in zip(seeds, (row.copy(), column.copy()), strict=True):
        seed[here][nearer] = new[nearer]


def keep_range(upscaled: np.ndarray, alpha: np.ndarray) -> None:
    """Holds upscaled opacity, in place, to what stands around each pixel.

    So that clear parts stay clear and opaque ones opaque, whatever a network adds.

    Args:
        upscaled: (H * s, W * s) floats in [0, 1].
        alpha: (H, W).
    """
    height, width = alpha.shape
    s = upscaled.shape[0] // height
    share = alpha.astype(np.float32) / white(alpha.dtype)
    low, high = (_around(share, pick) for pick in (np.minimum, np.maximum))
    parts = upscaled.reshape(height, s, width, s)
    np.clip(parts, low[:, None, :, None], high[:, None, :, None], out=parts)


def _around(values: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """Returns the smallest or the largest of each pixel's surroundings."""
    for axis in (0, 1):
        size = values.shape[axis]
        padding = [(0, 0), (0, 0)]
        padding[axis] = (_RADIUS, _RADIUS)
        wide = np.pad(values, padding, mode="edge")
        values = wide.take(range(size), axis)
        for shift in range(1, 2 * _RADIUS + 1):
            values = pick(values, wide.take(range(shift, shift + size), axis))
    return values
