"""Charbonnier, safe in half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import REDUCTIONS, check_choice, check_pair, in_float32, reduce


@LOSS_REGISTRY.register()
class StableCharbonnierLoss(nn.Module):
    """sqrt((pred - target)^2 + eps^2) in float32 (Lai et al., LapSRN, 2017).

    BasicSR's `CharbonnierLoss` adds its eps of 1e-12 in the input's type, where it
    underflows in float16, and the gradient at a zero difference is then NaN. Mind the
    other meaning of eps: here it is the paper's, in units of the image; BasicSR's is
    its square.

    Args:
        loss_weight: Factor on the loss.
        eps: Half-width of the round part around zero, over 0.
        reduction: "mean", "sum" or "none".
    """

    def __init__(
        self, loss_weight: float = 1.0, eps: float = 1e-3, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(
                f"Expected eps to be over 0, but got {eps!r}. Use 1e-3, the published "
                "value."
            )
        self.loss_weight = loss_weight
        self.eps = eps
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two images (B, C, H, W)."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            difference = in_float32(pred) - in_float32(target)
            # hypot neither under- nor overflows, whatever eps is.
            loss = torch.hypot(difference, difference.new_tensor(self.eps))
            return self.loss_weight * reduce(loss, self.reduction)
