"""The PSNR of each image, as a loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_pair, in_float32
from .luma_loss import LumaError


@LOSS_REGISTRY.register()
class PSNRLoss(nn.Module):
    """Negative mean PSNR of the images of a batch, in dB.

    A data set's PSNR is the mean over its images, so a smooth image at 40 dB counts as
    much as a textured one at 25, whose squared error is thirty times as large: a
    squared loss sees the textured ones almost alone.

    Args:
        loss_weight: Factor on the loss.
        luma: Whether to compare Y (BT.601) alone, as PSNR-Y does but for a
            constant; images are RGB then.
        floor: Added to each image's mean squared error: what is far below it, such as a
            crop of the sky, no longer gains.

    Raises:
        ValueError: for a floor that is not above 0, which a perfect crop needs.
    """

    def __init__(
        self, loss_weight: float = 1.0, luma: bool = False, floor: float = 1e-4
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(
                f"Expected floor of PSNRLoss to be above 0, but got {floor!r}. Use "
                "1e-4."
            )
        self.loss_weight = loss_weight
        self.luma_error = LumaError() if luma else None
        self.floor = floor

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two batches of images (B, C, H, W) in [0, 1]."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            if self.luma_error is None:
                error = in_float32(pred) - in_float32(target)
            else:
                error = self.luma_error(pred, target)
            squared = error.square().flatten(1).mean(1)
            decibels = (squared + self.floor).log() * (10 / math.log(10))
            return self.loss_weight * decibels.mean()
