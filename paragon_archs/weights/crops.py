"""What a training of shipped weights sees: crops of images that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..evaluation.measures import quantise
from ..evaluation.protocols import (
    crop_to_multiple,
    read_image,
    shrink_like_matlab,
)
from ..media import paths
from ..utils.resize import imresize
from .drawings import drawing, hardened


def find_images(folders: Sequence[str | Path]) -> list[Path]:
    """Returns the image files under `folders`, sorted within each.

    Raises:
        FileNotFoundError: when a folder is missing or holds no image.
    """
    return [file for folder in folders for file in paths.find_images(folder)]


def make_pair(high: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Returns (low, high), uint8: `high` cropped to multiples of scale, and its LR."""
    high = crop_to_multiple(high, scale)
    return shrink_like_matlab(high, scale), high


class Pool:
    """Crops of the training images, drawn at random, flipped and turned.

    Args:
        paths: Image files.
        scale: Upscaling factor.
        shrink: Factors at which every image takes part.
        smallest: Side in low-resolution pixels that a crop may have; images below it
            are left out.
        base: What the network adds its residual to, or None.
        drawings: How many low-resolution pictures to draw beside them, a quarter of
            that again being photographs turned black and white (channel by channel).
        drawn_side: Side in pixels that a crop of those may have.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        scale: int,
        shrink: Sequence[float],
        smallest: int,
        base: Callable[[Tensor], Tensor] | None,
        drawings: int = 0,
        drawn_side: int = 40,
    ) -> None:
        self.scale = scale
        self.base = base
        self.smallest = smallest
        self.pairs: list[tuple[Tensor, Tensor]] = []
        for path in paths:
            whole = read_image(path)
            for factor in shrink:
                image = whole
                if factor != 1:
                    smaller = imresize(whole[None].float() / 255, factor)[0]
                    image = quantise(smaller).to(torch.uint8)
                self._add(image)
        if not self.pairs:
            raise ValueError(
                f"Expected images of at least {smallest * scale} pixels a side, but "
                f"none of the {len(paths)} is. Use smaller crops or other images."
            )
        areas = np.array([low[0].numel() for low, _ in self.pairs], dtype=np.float64)
        self.chances = np.cumsum(areas / areas.sum())
        # At low resolution, where full contrast from pixel to pixel is what is hard;
        # drawn larger and shrunk it would be softer.
        rng = np.random.default_rng(0)
        self.drawn = [drawing(rng, 2 * drawn_side, 1) for _ in range(drawings)]
        for _ in range(drawings // 4):
            low, _ = self.pairs[int(rng.integers(len(self.pairs)))]
            if min(low.shape[-2:]) >= drawn_side:
                self.drawn.append(hardened(low))

    def _add(self, image: Tensor) -> None:
        """Appends (LR, what the base path leaves of HR) unless it is too small."""
        low, high = make_pair(image, self.scale)
        if min(low.shape[-2:]) < self.smallest:
            return
        target = high.float() / 255
        if self.base is not None:
            with torch.no_grad():
                target = target - self.base(low[None].float() / 255)[0]
        self.pairs.append((low, target.half()))

    def draw(
        self, rng: np.random.Generator, batch: int, patch: int
    ) -> tuple[Tensor, Tensor]:
        """Returns (input, target): (B, 3, P, P) and (B, 3, P * s, P * s), float32."""
        lows, targets = [], []
        s = self.scale
        for _ in range(batch):
            low, target = self.pairs[int(np.searchsorted(self.chances, rng.random()))]
            y, x, turn = _place(rng, low, patch)
            end_y, end_x = y + patch, x + patch
            lows.append(_turned(low[:, y:end_y, x:end_x], turn))
            targets.append(
                _turned(target[:, y * s : end_y * s, x * s : end_x * s], turn)
            )
        return torch.stack(lows).float() / 255, torch.stack(targets).float()

    def draw_drawn(self, rng: np.random.Generator, batch: int, patch: int) -> Tensor:
        """Returns crops (B, 3, P, P), float32, of the drawn pictures."""
        lows = []
        for _ in range(batch):
            low = self.drawn[int(rng.integers(len(self.drawn)))]
            y, x, turn = _place(rng, low, patch)
            lows.append(_turned(low[:, y : y + patch, x : x + patch], turn))
        return torch.stack(lows).float() / 255


def _place(rng: np.random.Generator, image: Tensor, side: int) -> tuple[int, int, int]:
    """Returns where a square of an image (C, H, W) begins, and how it is turned."""
    height, width = image.shape[1:]
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return y, x, int(rng.integers(8))


def _turned(image: Tensor, turn: int) -> Tensor:
    """One of the eight flips and quarter turns of a square image (C, P, P)."""
    if turn & 1:
        image = image.flip(-1)
    if turn & 2:
        image = image.flip(-2)
    return image.mT if turn & 4 else image
