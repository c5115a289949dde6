"""Multi-scale structural similarity as a loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_pair, in_float32

# Wang, Simoncelli, Bovik, "Multiscale structural similarity", 2003: finest first.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
K1, K2 = 0.01, 0.03
FLOOR = 1e-4  # a negative base has no real power, and 0 no finite gradient


def gaussian_window(size: int, sigma: float) -> Tensor:
    """Returns the 1-D Gaussian of `size` taps that sums to 1, float64."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-(x**2) / (2 * sigma**2))
    return window / window.sum()


@LOSS_REGISTRY.register()
class MSSSIMLoss(nn.Module):
    """1 - MS-SSIM, on each channel, mean of all; images in [0, 1].

    Windows are not padded, so scale j needs `(window_size - 1) * 2^j + 2^j` pixels: the
    published five want crops of at least 176. On smaller crops the coarsest scales
    that do not fit are left out and the weights of the rest are scaled to sum to 1.

    Args:
        loss_weight: Factor on the loss.
        window_size: Taps of the Gaussian window, odd.
        sigma: Width of the window in pixels.
        scales: The most scales to use, 1 to 5.
    """

    window: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        window_size: int = 11,
        sigma: float = 1.5,
        scales: int = 5,
    ) -> None:
        super().__init__()
        if window_size < 3 or window_size % 2 == 0:
            raise ValueError(
                f"Expected window_size to be odd and at least 3, but got "
                f"{window_size!r}. Use 11, the published value."
            )
        if not 1 <= scales <= len(WEIGHTS):
            raise ValueError(
                f"Expected scales to be from 1 to {len(WEIGHTS)}, but got {scales!r}. "
                "Use 5, the published value."
            )
        self.loss_weight = loss_weight
        self.scales = scales
        self.register_buffer(
            "window", gaussian_window(window_size, sigma), persistent=False
        )

    def _blur(self, x: Tensor) -> Tensor:
        channels, window = x.shape[1], self.window.to(x.dtype)
        size = window.numel()
        kernel = window.view(1, 1, 1, size).expand(channels, 1, 1, size)
        x = F.conv2d(x, kernel, groups=channels)
        return F.conv2d(x, kernel.transpose(2, 3), groups=channels)

    def _similarity(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns SSIM and its contrast-structure part of one scale, (B, C) each."""
        c1, c2 = K1**2, K2**2
        # One pass over all five moments keeps the small convolutions together.
        batch = x.shape[0]
        moments = self._blur(torch.cat((x, y, x * x, y * y, x * y)))
        mean_x, mean_y, xx, yy, xy = moments.split(batch)
        var_x, var_y = xx - mean_x**2, yy - mean_y**2
        covariance = xy - mean_x * mean_y
        structure = (2 * covariance + c2) / (var_x + var_y + c2)
        light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return (light * structure).mean((2, 3)), structure.mean((2, 3))

    def similarity(self, pred: Tensor, target: Tensor) -> Tensor:
        """Returns MS-SSIM of each image and channel, (B, C), at most 1."""
        window = self.window.numel()
        shortest = min(pred.shape[-2:])
        scales = 0
        while scales < self.scales and shortest >> scales >= window:
            scales += 1
        if scales == 0:
            raise ValueError(
                f"Expected MS-SSIM's images to be at least {window} pixels high and "
                f"wide, but got {tuple(pred.shape[-2:])}. Use larger crops."
            )
        weights = pred.new_tensor(WEIGHTS[:scales])
        weights = weights / weights.sum()
        result = torch.ones_like(pred[:, :, 0, 0])
        for j in range(scales):
            whole, structure = self._similarity(pred, target)
            value = whole if j == scales - 1 else structure
            result = result * value.clamp_min(FLOOR) ** weights[j]
            pred, target = F.avg_pool2d(pred, 2), F.avg_pool2d(target, 2)
        return result

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two images (B, C, H, W) in [0, 1]."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            similarity = self.similarity(in_float32(pred), in_float32(target))
            return self.loss_weight * (1 - similarity.mean())
