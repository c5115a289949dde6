"""MSD: a multi-scale patch discriminator.

Origin: the multi-scale discriminator of pix2pixHD (Wang et al., CVPR 2018) with the
spectral normalization of Miyato et al. (ICLR 2018), built here. MIT. Particular: equal
patch discriminators look at the image and at its halvings, so one judges texture and
another structure; the answer is a list with one map of logits per scale.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.registry import ARCH_REGISTRY

MAX_WIDTH = 8  # times num_feat


class PatchDiscriminator(nn.Module):
    """conv(stride 2) * num_layers, conv, conv: one logit per overlapping patch."""

    def __init__(
        self, in_chans: int, num_feat: int, num_layers: int, spectral_norm: bool
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int) -> nn.Module:
            layer = nn.Conv2d(inputs, outputs, 4 if stride == 2 else 3, stride, 1)
            if spectral_norm:
                return nn.utils.parametrizations.spectral_norm(layer)
            return layer

        layers: list[nn.Module] = []
        width = in_chans
        for i in range(num_layers):
            wider = num_feat * min(2**i, MAX_WIDTH)
            layers += [conv(width, wider, 2), nn.LeakyReLU(0.2, inplace=True)]
            width = wider
        wider = num_feat * min(2**num_layers, MAX_WIDTH)
        layers += [conv(width, wider, 1), nn.LeakyReLU(0.2, inplace=True)]
        layers.append(conv(wider, 1, 1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # (B, C, H, W) -> (B, 1, H / 2^L, W / 2^L)


@ARCH_REGISTRY.register()
class MSD(nn.Module):
    """Multi-scale discriminator.

    Args:
        in_chans: Channels of the image.
        num_feat: Width after the first convolution; it doubles per layer up to 8 times.
        num_layers: Halvings inside each discriminator, at least 1.
        num_scales: How many sizes of the image are judged, at least 1.
        spectral_norm: Whether every convolution has a Lipschitz constant of 1.

    Raises:
        ValueError: for a count below 1.
    """

    def __init__(
        self,
        *,
        in_chans: int = 3,
        num_feat: int = 64,
        num_layers: int = 3,
        num_scales: int = 3,
        spectral_norm: bool = True,
    ) -> None:
        hyperparameters = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
        }
        super().__init__()
        self.hyperparameters = hyperparameters
        for name in ("in_chans", "num_feat", "num_layers", "num_scales"):
            if not hyperparameters[name] >= 1:
                raise ValueError(
                    f"Expected {name} to be at least 1, but got "
                    f"{hyperparameters[name]!r}. The defaults are 3, 64, 3 and 3."
                )
        self.smallest = 2 ** (num_layers + num_scales - 1)
        self.discriminators = nn.ModuleList(
            PatchDiscriminator(in_chans, num_feat, num_layers, spectral_norm)
            for _ in range(num_scales)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Judges `x` (B, C, H, W) in [0, 1].

        Returns:
            Logits (B, 1, h, w) per scale, the full size first.

        Raises:
            ValueError: when the image is too small for the coarsest scale.
        """
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"Expected the image to be at least {self.smallest} pixels high and "
                f"wide, but got {tuple(x.shape[-2:])}. Use larger crops, or fewer "
                "num_scales or num_layers."
            )
        logits = []
        for i, discriminator in enumerate(self.discriminators):
            if i:
                # A 3x3 mean, borders counted right: no aliasing into the next scale.
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            logits.append(discriminator(x))
        return logits
