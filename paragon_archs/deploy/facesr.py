"""The face network in deploy form: channels-last, fused activations and residuals."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.facesr_arch import FaceSR, NormResidual
from .base import DeployNetwork
from .ops import conv, shuffle, widen_norm


def _residual(block: NormResidual, x: Tensor) -> Tensor:
    y = conv(x, block.conv1.weight, block.conv1.bias, 1)
    y = F.relu_(widen_norm(block.norm, y))
    return conv(y, block.conv2.weight, block.conv2.bias, 1, add=x)


class FaceDeploy(DeployNetwork):
    """The face network in deploy form.

    Args:
        model: The network.
    """

    def __init__(self, model: FaceSR) -> None:
        super().__init__(model)
        self.factors = model.factors
        self.conv_in = model.conv_in
        self.residual = model.residual
        self.upsampler = nn.ModuleList(model.upsampler)
        self.refine = nn.ModuleList(model.refine)
        self.conv_out = model.conv_out

    def run(self, x: Tensor) -> Tensor:
        x = conv(x, self.conv_in.weight, self.conv_in.bias, 2, activation="relu")
        x = _residual(self.residual, x)
        for layer, factor in zip(self.upsampler, self.factors, strict=True):
            assert isinstance(layer, nn.Conv2d)
            x = conv(x, layer.weight, layer.bias, 1, activation="relu")
            x = shuffle(x, factor)
        for block in self.refine:
            assert isinstance(block, NormResidual)
            x = _residual(block, x)
        return conv(x, self.conv_out.weight, self.conv_out.bias, 2)
