"""Transparency: the colors that a network sees under it, and the range it keeps."""

from __future__ import annotations

import numpy as np

from .arrays import max_value

_STEPS = (32, 16, 8, 4, 2, 1)  # of the search; it finds seeds up to their sum away
_BAND = 2**22  # pixels that are searched at once
_FAINT = 8 / 255  # opacity under which 8 bits do not hold a color
_RADIUS = 2  # pixels around one that its upscaled opacity may come from


def fill_clear(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives pixels that cannot be seen the color of the nearest one that can.

    What stands under clear pixels, usually black, would otherwise bleed into their
    neighbors. By jump flooding (Rong and Tan, 2006) up to 63 pixels away, which is
    beyond what networks look at near an edge; further off the mean color stands. Large
    pictures go in bands of rows.

    Args:
        pixels: (H, W, C).
        alpha: (H, W) of the same dtype.
    """
    visible = alpha >= _FAINT * max_value(alpha.dtype)
    if visible.all():
        return pixels
    if not visible.any():
        visible = alpha > 0
        if not visible.any():
            return pixels
    mean = np.zeros(pixels.shape[2])
    step = max(2 * sum(_STEPS), _BAND // alpha.shape[1])
    bands = [slice(at, at + step) for at in range(0, len(alpha), step)]
    for band in bands:
        mean += pixels[band][visible[band]].sum(axis=0, dtype=np.float64)
    mean /= np.count_nonzero(visible)
    filled = np.empty_like(pixels)
    filled[...] = mean if pixels.dtype.kind == "f" else np.rint(mean)
    for band in bands:
        low = max(0, band.start - sum(_STEPS))
        around = slice(low, band.stop + sum(_STEPS))
        found, seeds = _nearest(visible[around])
        own = slice(band.start - low, band.start - low + len(filled[band]))
        found, seeds = found[own], [seed[own] for seed in seeds]
        sources = pixels[around][seeds[0][found], seeds[1][found]]
        filled[band][found] = sources
    return filled


def _nearest(visible: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns which pixels have a visible one near, and its row and column."""
    places = np.indices(visible.shape, dtype=np.int32)
    rows, columns = places[0], places[1]
    far = np.int32(2**15)
    seeds = [np.where(visible, at, -far) for at in places]
    distance = np.where(visible, np.float32(0), np.float32(np.inf))
    for step in _STEPS:
        for down in (-step, 0, step):
            for right in (-step, 0, step):
                if down or right:
                    _flood(seeds, distance, rows, columns, down, right)
    return np.isfinite(distance), seeds


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


def keep_range(upscaled: np.ndarray, alpha: np.ndarray, low: int = 0) -> None:
    """Holds upscaled opacity, in place, to what stands around each pixel.

    So that clear parts stay clear and opaque ones opaque, whatever a network adds.

    Args:
        upscaled: (rows * s, W * s) floats in [0, 1].
        alpha: (H, W).
        low: The first row of `alpha` that `upscaled` is of.
    """
    s = upscaled.shape[1] // alpha.shape[1]
    count = len(upscaled) // s
    first = max(0, low - _RADIUS)
    around = alpha[first : low + count + _RADIUS]
    share = around.astype(np.float32) / max_value(alpha.dtype)
    own = slice(low - first, low - first + count)
    least, most = (_around(share, pick)[own] for pick in (np.minimum, np.maximum))
    parts = upscaled.reshape(count, s, alpha.shape[1], s)
    np.clip(parts, least[:, None, :, None], most[:, None, :, None], out=parts)


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
