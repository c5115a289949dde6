"""The error of luma: what PSNR-Y measures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_choice, check_pair, in_float32

WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601


class LumaError(nn.Module):
    """The difference of Y (B, H, W) of two batches of RGB images (B, 3, H, W).

    Raises:
        ValueError: for images that are not RGB.
    """

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(WEIGHTS), persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape[1] != 3:
            raise ValueError(
                f"Expected RGB images to compare the luma of, but got {pred.shape[1]} "
                "channels. Use L1Loss, or PSNRLoss without luma."
            )
        error = in_float32(pred) - in_float32(target)
        return torch.einsum("c,bchw->bhw", self.weights.to(error.dtype), error)


@LOSS_REGISTRY.register()
class LumaLoss(nn.Module):
    """Mean absolute or squared error of Y (BT.601) of RGB images.

    Beside a loss on R, G and B it moves a network towards what the eye and PSNR-Y see.

    Args:
        loss_weight: Factor on the loss.
        criterion: "l1" or "l2".
    """

    def __init__(self, loss_weight: float = 1.0, criterion: str = "l1") -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.criterion = check_choice("criterion", criterion, ("l1", "l2"))
        self.luma_error = LumaError()

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two RGB images (B, 3, H, W)."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            luma = self.luma_error(pred, target)
            value = luma.abs() if self.criterion == "l1" else luma.square()
            return self.loss_weight * value.mean()
