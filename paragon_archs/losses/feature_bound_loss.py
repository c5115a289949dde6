"""A bound on what a network's features may become, on pictures of full contrast."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..utils.drawings import drawing
from ..utils.draws import uniform
from ..utils.registry import LOSS_REGISTRY

DRAWINGS = 1024  # different pictures


@functools.lru_cache(DRAWINGS)
def _drawn(number: int, side: int) -> Tensor:
    # At low resolution, where full contrast from pixel to pixel is what is hard: drawn
    # larger and downscaled it would be softer.
    return drawing(np.random.default_rng(number), side, 1)


@LOSS_REGISTRY.register()
class FeatureBoundLoss(nn.Module):
    """Logarithm of the largest feature beyond a limit, on drawn pictures.

    For networks that multiply features: products answer to full contrast, which
    photographs hardly have, with values of any size. Every step looks at one new crop
    of a drawn picture and at the worst one so far. Their error is not in it: it would
    be all that training sees. Weigh it with 1e-3 beside an L1 loss, 1e-4 beside a
    squared one and 1e-5 beside a PSNRLoss of weight 1e-4; its gradient is some hundred
    times that of photographs.

    It runs the network itself: `engine.bounds.bounded` hands it what it needs.

    Args:
        loss_weight: Factor on the loss.
        feature_limit: Absolute value that features may have after each block;
            photographs cause 2 to 5.
        output_limit: Distance from middle gray that the output may have.
        side: Side of a drawn crop in pixels.
        fresh: New crops in each step.
    """

    worst: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        feature_limit: float = 20.0,
        output_limit: float = 2.5,
        side: int = 40,
        fresh: int = 1,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.feature_limit = feature_limit
        self.output_limit = output_limit
        self.side = side
        self.fresh = fresh
        # The worst crop so far, (0 or 1, 3, side, side); a part of training states.
        self.register_buffer("worst", torch.empty(0, 3, side, side), persistent=False)

    def pictures(self, lq: Tensor, current_iter: int) -> Tensor:
        """Returns the worst crop and fresh ones, (1 + fresh, 3, side, side) in [0, 1].

        Args:
            lq: The step's own input (B, 3, h, w); one in five fresh crops is a crop of
                it, turned to full contrast.
            current_iter: What the fresh crops follow from.
        """
        seeds = [current_iter * self.fresh + i for i in range(self.fresh)]
        crops = [self._crop(seed, lq) for seed in seeds]
        fresh = torch.stack(crops).to(self.worst)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(fresh, 0)  # so that every process keeps the same worst one
        return torch.cat((self.worst, fresh))

    def _crop(self, seed: int, lq: Tensor) -> Tensor:
        kind, number, row, column = uniform([seed], 4)[0]
        if kind < 0.2 and min(lq.shape[-2:]) >= self.side:
            picture = full_contrast(lq[seed % len(lq)].detach())
        else:
            drawn = _drawn(int(DRAWINGS * number), 2 * self.side)
            if lq.is_cuda:  # nobody waits for it
                drawn = drawn.pin_memory()
            picture = drawn.to(lq, non_blocking=True) / 255
        height, width = picture.shape[-2:]
        top = int(row * (height - self.side + 1))
        left = int(column * (width - self.side + 1))
        return picture[:, top : top + self.side, left : left + self.side]

    def forward(self, features: Iterable[Tensor], output: Tensor) -> Tensor:
        """Returns (B,): 0 for a picture within the limits.

        Block by block, since each one squares what the block before let pass.

        Args:
            features: (B, F, H, W) after each block.
            output: (B, 3, H * s, W * s).
        """

        def beyond(values: Tensor, limit: float) -> Tensor:
            worst = values.float().abs().amax((1, 2, 3))
            return (worst / limit).clamp(min=1).log()

        total = beyond(output - 0.5, self.output_limit)
        for values in features:
            total = total + beyond(values, self.feature_limit)
        return self.loss_weight * total


def full_contrast(image: Tensor) -> Tensor:
    """Returns an image (C, H, W): 1 above a channel's median, else 0."""
    middle = image.flatten(1).median(1).values[:, None, None]
    return (image > middle).to(image.dtype)
