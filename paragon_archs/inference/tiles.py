"""Overlapping tiles, blended where they meet: for networks that cannot be followed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..utils.oom import is_out_of_memory, release

logger = logging.getLogger(__name__)

_LEAST_TILE = 32


def run_tiles(
    forward: Callable[[Tensor], Tensor],
    read: Callable[[int, int], Tensor],
    size: tuple[int, int],
    scale: int,
    tile: int,
    halo: int,
) -> Iterator[tuple[int, int, Tensor]]:
    """Runs a network on overlapping tiles; rows of tiles are blended into the next.

    Each tile sees `halo` pixels of its neighbors; inside that, results fade into each
    other linearly over half of it, so that no seam stands where two tiles disagree.

    Args:
        forward: (B, C, h, w) to (B, C, h * scale, w * scale).
        read: From the first row and the row behind the last to (B, C, rows, W).
        size: Height and width.
        scale: Upscaling factor.
        tile: Side of a tile without its halo.
        halo: Pixels seen around a tile.

    Yields:
        The first row, the row behind the last (rows of the input) and the result's
        rows, from the top down.
    """
    height, _ = size
    warned = False
    top = 0
    carried: Tensor | None = None  # the fading rows below the last band
    fade = halo // 2
    while top < height:
        bottom = min(top + tile, height)
        try:
            band = _band(forward, read, size, scale, (top, bottom), tile, halo)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or tile <= _LEAST_TILE:
                raise
            tile = max(_LEAST_TILE, tile // 2)
            if carried is not None:
                release(carried.device)
            if not warned:
                logger.warning("out of memory: going on with tiles of %d pixels", tile)
                warned = True
            continue
        # `band` covers rows from top - fade to bottom + fade, cut at the image.
        above = top - max(0, top - fade)
        below = min(height, bottom + fade) - bottom if bottom < height else -fade
        if carried is not None:
            rows = carried.shape[2]
            weight = _ramp(rows, band)[:, None]
            band[:, :, :rows] = torch.lerp(carried, band[:, :, :rows], weight)
        keep = band.shape[2] - (fade + below) * scale
        carried = band[:, :, keep:].clone() if bottom < height else None
        first = top - above
        yield first, first + keep // scale, band[:, :, :keep]
        top = bottom


def _ramp(length: int, like: Tensor) -> Tensor:
    """Returns weights that rise from 0 to 1, neither of them reached."""
    steps = torch.arange(length, device=like.device, dtype=like.dtype)
    return (steps + 0.5) / max(length, 1)


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, tile):
        yield start, min(start + tile, length)


def _band(
    forward: Callable[[Tensor], Tensor],
    read: Callable[[int, int], Tensor],
    size: tuple[int, int],
    scale: int,
    rows: Sequence[int],
    tile: int,
    halo: int,
) -> Tensor:
    """Returns the result of a row of tiles, with the fading rows on both sides."""
    height, width = size
    fade = halo // 2
    low, high = max(0, rows[0] - halo), min(height, rows[1] + halo)
    source = read(low, high)
    start = max(0, rows[0] - fade) - low
    stop = min(height, rows[1] + fade) - low
    band: Tensor | None = None
    for left, right in _spans(width, tile):
        a, b = max(0, left - halo), min(width, right + halo)
        out = forward(source[:, :, :, a:b])[:, :, start * scale : stop * scale]
        if band is None:
            shape = (*out.shape[:3], width * scale)
            band = out.new_zeros(shape)
        # From left - fade to right + fade; the left fade is blended with what is there.
        x, y = max(0, left - fade), min(width, right + fade)
        piece = out[..., (x - a) * scale : (y - a) * scale]
        overlap = (min(width, left + fade) - x) * scale if left else 0
        if overlap:
            before = band[..., x * scale : x * scale + overlap]
            blended = torch.lerp(before, piece[..., :overlap], _ramp(overlap, out))
            band[..., x * scale : x * scale + overlap] = blended
        band[..., x * scale + overlap : y * scale] = piece[..., overlap:]
    assert band is not None
    return band
