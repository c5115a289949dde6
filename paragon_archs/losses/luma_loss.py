"""The error of luma: what PSNR-Y measures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_choice, check_pair, in_float32

WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601


@LOSS_REGISTRY.register()
class LumaLoss(nn.Module):
    """Mean absolute or squared error of Y (BT.601) of RGB images.

    Beside a loss on R, G and B it moves a network towards what the eye and PSNR-Y see.

    Args:
        loss_weight: Factor on the loss.
        criterion: "l1" or "l2".
    """

    weights: Tensor

    def __init__(self, loss_weight: float = 1.0, criterion: str = "l1") -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.criterion = check_choice("criterion", criterion, ("l1", "l2"))
        self.register_buffer("weights", torch.tensor(WEIGHTS), persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two RGB images (B, 3, H, W)."""
        check_pair(pred, target)
        if pred.shape[1] != 3:
            raise ValueError(
                f"Expected LumaLoss to compare RGB images, but got {pred.shape[1]} "
                "channels. Use L1Loss."
            )
        with torch.autocast(pred.device.type, enabled=False):
            error = in_float32(pred) - in_float32(target)
            luma = torch.einsum("c,bchw->bhw", self.weights.to(error.dtype), error)
            value = luma.abs() if self.criterion == "l1" else luma.square()
            return self.loss_weight * value.mean()
