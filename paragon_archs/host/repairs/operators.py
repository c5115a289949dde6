"""Operators of the host that exist as compiled extensions only."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def fused_leaky_relu(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wraps StyleGAN2's biased, scaled LeakyReLU: torch computes it where need be."""

    @functools.wraps(own)
    def activation(
        input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5
    ) -> Tensor:
        if input.is_cuda:
            try:
                return own(input, bias, negative_slope, scale)
            except NameError:  # the extension was not compiled
                pass
        shaped = bias.view(1, -1, *[1] * (input.ndim - 2))
        return F.leaky_relu(input + shaped, negative_slope) * scale

    return activation
