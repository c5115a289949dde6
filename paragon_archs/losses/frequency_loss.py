"""Focal frequency loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_pair, in_float32


@LOSS_REGISTRY.register()
class FocalFrequencyLoss(nn.Module):
    """Squared distance of spectra, weighted by itself (Jiang et al., ICCV 2021).

    w = (|F_pred - F_target| / max)^alpha, without gradient; loss = mean(w * |...|^2)
    with orthonormal transforms: what the network synthesises badly counts most.

    Args:
        loss_weight: Factor on the loss.
        alpha: How strongly hard frequencies are favored; 0 weighs all the same.
        patch_factor: The image is cut into this many patches each way first.
    """

    def __init__(
        self, loss_weight: float = 1.0, alpha: float = 1.0, patch_factor: int = 1
    ) -> None:
        super().__init__()
        if alpha < 0 or patch_factor < 1:
            raise ValueError(
                "Expected alpha to be at least 0 and patch_factor at least 1, but got "
                f"{alpha!r} and {patch_factor!r}. Use 1 for both, as published."
            )
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.patch_factor = patch_factor

    def _spectrum(self, x: Tensor) -> Tensor:
        n = self.patch_factor
        if x.shape[-2] % n or x.shape[-1] % n:
            raise ValueError(
                f"Expected patch_factor to divide the crop, but got {n} for "
                f"{tuple(x.shape[-2:])}. Use 1, or a crop that it divides."
            )
        b, c, h, w = x.shape
        patches = x.reshape(b, c, n, h // n, n, w // n).transpose(3, 4)
        return torch.fft.fft2(patches, norm="ortho")

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two images (B, C, H, W)."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            gap = self._spectrum(in_float32(pred)) - self._spectrum(in_float32(target))
            distance = gap.real**2 + gap.imag**2
            with torch.no_grad():
                weight = distance.sqrt() ** self.alpha
                largest = weight.amax((-2, -1), keepdim=True)
                # Equal spectra: 0 / 0. Their weight does not matter.
                weight = torch.where(largest > 0, weight / largest, weight)
            return self.loss_weight * (weight * distance).mean()
