"""FaceSR: the small CelebA face network, 128 to 512 pixels with 134,199 parameters.

Origin: a published description of work in progress (5x5 entry to 64 maps, PixelShuffle,
residual blocks with group normalisation that refine); this layout has its exact count.
MIT.
Particular: most of the residual blocks work at the high resolution, 12 channels wide.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.registry import ARCH_REGISTRY

VARIANTS: dict[str, dict[str, Any]] = {
    "facesr": {"num_feat": 64, "mid_feat": 16, "refine_feat": 12, "num_refine": 4},
}

MAX_SCALE = 8
NORM_GROUPS = 4  # of each group norm; leaves no trace in the weights


class NormResidual(nn.Module):
    """x + conv2(relu(norm(conv1(x)))), norm over groups of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm(self.conv1(x))))


@ARCH_REGISTRY.register()
class FaceSR(nn.Module):
    """FaceSR.

    Args:
        scale: Upscaling factor, 1 to 8; 4 is the published network. 4 and 8 are taken
            in steps of 2, any other in one step.
        in_chans: Channels of the input and of the output.
        num_feat: Width at the low resolution, a multiple of 4.
        mid_feat: Width between two upsampling steps.
        refine_feat: Width at the high resolution, a multiple of 4.
        num_refine: Residual blocks at the high resolution.

    Raises:
        ValueError: for a scale outside 1 to 8 or a width that is no multiple of 4.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        in_chans: int = 3,
        num_feat: int = 64,
        mid_feat: int = 16,
        refine_feat: int = 12,
        num_refine: int = 4,
    ) -> None:
        hyperparameters = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
        }
        super().__init__()
        self.hyperparameters = hyperparameters
        if not (isinstance(scale, int) and 1 <= scale <= MAX_SCALE):
            raise ValueError(
                f"Expected scale to be an integer from 1 to {MAX_SCALE}, but got "
                f"{scale!r}. Use 4, the published one, or any other in that range."
            )
        for name in ("num_feat", "refine_feat"):
            if hyperparameters[name] % NORM_GROUPS:
                raise ValueError(
                    f"Expected {name} to be a multiple of {NORM_GROUPS}, the groups "
                    f"of its norms, but got {hyperparameters[name]!r}. Choose another."
                )
        self.scale = scale
        self.factors = {4: (2, 2), 8: (2, 2, 2)}.get(scale, (scale,))
        middle = [mid_feat] * (len(self.factors) - 1)
        widths = [num_feat, *middle, refine_feat]
        self.conv_in = nn.Conv2d(in_chans, num_feat, 5, padding=2)
        self.residual = NormResidual(num_feat)
        self.upsampler = nn.ModuleList(
            nn.Conv2d(before, after * r**2, 3, padding=1)
            for before, after, r in zip(
                widths[:-1], widths[1:], self.factors, strict=True
            )
        )
        self.refine = nn.Sequential(
            *(NormResidual(refine_feat) for _ in range(num_refine))
        )
        self.conv_out = nn.Conv2d(refine_feat, in_chans, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        x = self.residual(F.relu(self.conv_in(x)))
        for conv, factor in zip(self.upsampler, self.factors, strict=True):
            x = F.relu(F.pixel_shuffle(conv(x), factor))
        return self.conv_out(self.refine(x))
