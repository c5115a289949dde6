"""Pictures continued by reflection, for networks that are wrong at their border."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..strips import Read

# A border that is off by more than two levels of 8 bits shows on a flat picture.
_WRONG = 2 / 255
# Inside, a network that keeps flat pictures is off by no more than this.
_KEPT = 8 / 255
_LEVELS = (1.0, 0.5)
_WIDTHS = (0, 4, 8)  # the narrowest that is right is taken
_SIDE = 32  # of the flat pictures; what is looked at is their outer `_RING` pixels
_RING = 8
LARGEST = _SIDE + 2 * max(_WIDTHS)  # side of what the network has to take for it


@dataclass(frozen=True)
class Border:
    """Pixels by which pictures are continued on each side, mirrored at their edge.

    Networks that pad with zeros see black around the picture: their outermost pixels
    come out darker, or with fringes.
    """

    width: int

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of the continued picture."""
        return size[0] + 2 * self.width, size[1] + 2 * self.width

    def reading(self, read: Read, size: tuple[int, int]) -> Read:
        """Returns what reads the continued picture's rows, (B, C, rows, W).

        Args:
            read: Reads the picture's.
            size: Height and width of the picture.
        """
        if not self.width:
            return read
        rows = _mirrored(size[0], self.width)

        def continued(low: int, high: int) -> Tensor:
            wanted = rows[low:high]
            first = int(wanted.min())
            x = read(first, int(wanted.max()) + 1)
            inside = _on_device(size[0], self.width, x.device)[low:high] - first
            across = _on_device(size[1], self.width, x.device)
            return x.index_select(2, inside).index_select(3, across)

        return continued

    def cut(
        self,
        parts: Iterable[tuple[int, int, Tensor]],
        size: tuple[int, int],
        scale: int,
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yields the picture's part of the continued picture's rows.

        Args:
            parts: Rows of the input from and to, and what they become.
            size: Height and width of the picture.
            scale: Upscaling factor.
        """
        top, bottom = self.width, self.width + size[0]
        left, right = (at * scale for at in (self.width, self.width + size[1]))
        for low, high, rows in parts:
            start, stop = max(low, top), min(high, bottom)
            if start < stop:
                inside = slice((start - low) * scale, (stop - low) * scale)
                yield start - top, stop - top, rows[:, :, inside, left:right]


def _mirrored(length: int, width: int) -> np.ndarray:
    return np.pad(np.arange(length), width, mode="symmetric")


@functools.lru_cache(8)
def _on_device(length: int, width: int, device: torch.device) -> Tensor:
    """Returns `_mirrored` on a device: sent once, as sending waits for the device."""
    return torch.from_numpy(_mirrored(length, width)).to(device)


def find_border(run: Callable[[Tensor], Tensor], like: Tensor, scale: int) -> Border:
    """Finds out, on flat pictures, whether a network is wrong at its border.

    Only a network that keeps flat pictures as they are can be right there.

    Args:
        run: The network, (1, C, H, W) to (1, C, H * scale, W * scale).
        like: (1, C, ...) of the network's device, dtype and channels.
        scale: Upscaling factor.
    """
    worst: dict[int, float] = {}
    for width in _WIDTHS:
        border = Border(width)
        off = [_off(run, like, border, level, scale) for level in _LEVELS]
        if not all(inside <= _KEPT for _, inside in off):  # NaN neither
            return Border(0)
        worst[width] = max(outside for outside, _ in off)
        if worst[width] <= _WRONG:
            return border
    # In half precision flat pictures are not quite flat: what helps most, if it helps.
    best = min(_WIDTHS, key=lambda width: worst[width])
    return Border(best if worst[best] <= worst[0] / 2 else 0)


def _off(
    run: Callable[[Tensor], Tensor],
    like: Tensor,
    border: Border,
    level: float,
    scale: int,
) -> tuple[float, float]:
    """Returns how far a flat picture's border is from its middle, and that from it."""
    sides = border.size((_SIDE, _SIDE))
    result = run(like.new_full((*like.shape[:2], *sides), level))
    edge = border.width * scale
    side = _SIDE * scale
    off = (result[..., edge : edge + side, edge : edge + side].float() - level).clamp(
        -level, 1 - level
    )
    ring = _RING * scale
    inner = off[..., ring : side - ring, ring : side - ring]
    middle = inner.mean((2, 3), keepdim=True)
    return float((off - middle).abs().max()), float(inner.abs().max())
