"""ResShuffle in deploy form: fused activations, and the last convolution before the
last shuffle instead of behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..archs.resshuffle_arch import PlainResidual, ResShuffle, ShuffleStep
from .base import DeployNetwork, Folded, exact
from .ops import conv, shuffle

MOST = 3
"""Largest last step for which convolving before the shuffle pays: of the wider kernel a
growing part is zero, against three output channels that leave a processor idle."""


class Unshuffled(Folded):
    """conv(shuffle(x)) as shuffle(conv'(x)), exact for an odd, centered kernel."""

    def __init__(self, layer: nn.Conv2d, factor: int) -> None:
        super().__init__()
        self.factor = s = factor
        weight, bias = exact(layer.weight), exact(layer.bias)
        c, m, k, _ = weight.shape
        halo = -(-(k // 2) // s)  # pixels of the smaller image on each side
        self.padding = halo
        n = 2 * halo + 1
        wide = torch.zeros(c, s, s, m, s, s, n, n, dtype=torch.float64)
        places = [
            (i, tap, *reversed(divmod(i + tap - k // 2, s)))
            for i in range(s)
            for tap in range(k)
        ]
        for i, row, sub_row, y in places:
            for j, column, sub_column, x in places:
                wide[:, i, j, :, sub_row, sub_column, y + halo, x + halo] = weight[
                    :, :, row, column
                ]
        self.keep("weight", wide.reshape(c * s * s, m * s * s, n, n), layer.weight)
        self.keep("bias", bias.repeat_interleave(s * s), layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(conv(x, self.weight, self.bias, self.padding), self.factor)


class ResShuffleDeploy(DeployNetwork):
    """ResShuffle in deploy form.

    Args:
        model: The network.
    """

    def __init__(self, model: ResShuffle) -> None:
        super().__init__(model)
        self.conv_input = model.conv_input
        self.blocks = nn.ModuleList(model.residual_blocks)
        self.conv_mid = model.conv_mid
        self.steps = nn.ModuleList(model.upsample)
        self.conv_output = model.conv_output
        last = self.steps[-1]
        assert isinstance(last, ShuffleStep)
        self.merges = 1 < last.factor <= MOST
        if self.merges:
            self.end = Unshuffled(model.conv_output, last.factor)

    def run(self, x: Tensor) -> Tensor:
        first = conv(
            x, self.conv_input.weight, self.conv_input.bias, 4, activation="relu"
        )
        x = first
        for block in self.blocks:
            assert isinstance(block, PlainResidual)
            one, two = block.conv1, block.conv2
            y = conv(x, one.weight, one.bias, 1, activation="relu")
            x = conv(y, two.weight, two.bias, 1, add=x)
        x = conv(x, self.conv_mid.weight, self.conv_mid.bias, 1, add=first)
        for index, step in enumerate(self.steps, start=1):
            assert isinstance(step, ShuffleStep)
            # Each value is moved, none is mixed: the activation may come first.
            x = conv(x, step.conv.weight, step.conv.bias, 1, activation="relu")
            if self.merges and index == len(self.steps):
                return self.end(x)
            x = shuffle(x, step.factor)
        return conv(x, self.conv_output.weight, self.conv_output.bias, 4)
