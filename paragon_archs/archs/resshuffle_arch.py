"""ResShuffle: residual blocks and PixelShuffle steps, without normalization.

Origin: ResShuffle by EscapedShark, built here from its published layout; its ideas are
EDSR's and ESPCN's. MIT.
Particular: 9x9 convolutions at both ends; scale 4 is two steps of 2, any other one.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.registry import ARCH_REGISTRY

VARIANTS: dict[str, dict[str, Any]] = {
    "resshuffle": {"num_features": 64, "num_residuals": 16},
}

MAX_SCALE = 8


class PlainResidual(nn.Module):
    """x + conv2(relu(conv1(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class ShuffleStep(nn.Module):
    """relu(shuffle(conv(x))): (B, C, H, W) to (B, C, H * r, W * r)."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(channels, channels * factor**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.pixel_shuffle(self.conv(x), self.factor))


@ARCH_REGISTRY.register()
class ResShuffle(nn.Module):
    """ResShuffle.

    Args:
        scale: Upscaling factor, 1 to 8.
        in_chans: Channels of the input and of the output.
        num_features: Width of the body.
        num_residuals: Residual blocks.

    Raises:
        ValueError: for a scale outside 1 to 8.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        in_chans: int = 3,
        num_features: int = 64,
        num_residuals: int = 16,
    ) -> None:
        hyperparameters = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
        }
        super().__init__()
        self.hyperparameters = hyperparameters
        if not (isinstance(scale, int) and 1 <= scale <= MAX_SCALE):
            raise ValueError(
                f"Expected scale to be an integer from 1 to {MAX_SCALE}, but got "
                f"{scale!r}. Use 2, 3, 4 or 8, or any other in that range."
            )
        self.scale = scale
        c = num_features
        self.conv_input = nn.Conv2d(in_chans, c, 9, padding=4)
        self.residual_blocks = nn.Sequential(
            *(PlainResidual(c) for _ in range(num_residuals))
        )
        self.conv_mid = nn.Conv2d(c, c, 3, padding=1)
        steps = (2, 2) if scale == 4 else (scale,)
        self.upsample = nn.Sequential(*(ShuffleStep(c, r) for r in steps))
        self.conv_output = nn.Conv2d(c, in_chans, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        a = F.relu(self.conv_input(x))
        x = self.conv_mid(self.residual_blocks(a)) + a
        return self.conv_output(self.upsample(x))
