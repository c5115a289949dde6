"""The face network in deploy form: channels-last, fused activations, norms in two
passes, and shuffles that move whole runs of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.facesr_arch import FaceSR, NormResidual
from .base import DeployNetwork
from .leaf import Rule, leaf
from .onednn import channels_last
from .ops import conv, fast, shuffle, widen_norm


def _residual(block: NormResidual, x: Tensor) -> Tensor:
    y = conv(x, block.conv1.weight, block.conv1.bias, 1)
    if fast(x):
        y = _norm_relu(block.norm, y)
    else:
        y = F.relu(widen_norm(block.norm, y))
    return conv(y, block.conv2.weight, block.conv2.bias, 1, add=x)


def _norm_relu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Group norm and ReLU in place of `x`, channels-last; only where `fast`.

    Torch's kernel is slower and loses digits in this layout. Columns are summed in
    float32, the rest in float64; where the mean is far larger than the spread, it is
    taken out before squares are.
    """
    _, c, h, w = x.shape
    lines = x.permute(0, 2, 3, 1).view(h, w * c)
    each = c // norm.num_groups
    count = h * w * each

    def mean_of(values: Tensor) -> Tensor:
        sums = values.sum(0).view(w, norm.num_groups, each)
        return (sums.double().sum((0, 2)) / count).repeat_interleave(each)  # (C)

    mean, square = mean_of(lines), mean_of(lines.square())
    variance = square - mean.square()
    if bool((variance < 0.05 * square).any()):
        variance = mean_of((lines - mean.float().repeat(w)).square())
    factor = norm.weight.double() * (variance + norm.eps).rsqrt()
    shift = (norm.bias.double() - mean * factor).float().repeat(w)
    torch.addcmul(shift, lines, factor.float().repeat(w), out=lines)
    return x.relu_()


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
        for index in range(len(self.factors)):
            x = self.enlarge(x, index)
        for block in self.refine:
            assert isinstance(block, NormResidual)
            x = _residual(block, x)
        return conv(x, self.conv_out.weight, self.conv_out.bias, 2)

    # What it makes stands as cells and as the image.
    @leaf(
        lambda self, x, index: Rule(
            halo=1, inside=self.conv_in.out_channels * self.scale**2
        )
    )
    def enlarge(self, x: Tensor, index: int) -> Tensor:
        """relu(shuffle(conv(x))) of one step, channels-last where `x` is."""
        layer, factor = self.upsampler[index], self.factors[index]
        assert isinstance(layer, nn.Conv2d)
        weight, bias = layer.weight, layer.bias
        assert bias is not None
        if not fast(x):
            return shuffle(conv(x, weight, bias, 1, activation="relu"), factor)
        b, _, h, w = x.shape
        # Sub-pixels outside, channels inside: a row of a cell is one run of memory.
        weight = weight.unflatten(0, (-1, factor**2)).transpose(0, 1).flatten(0, 1)
        bias = bias.view(-1, factor**2).t().flatten()
        cells = conv(x, weight.contiguous(), bias, 1, activation="relu")
        rows = cells.permute(0, 2, 3, 1).reshape(b, h, w, factor, -1).transpose(2, 3)
        image = rows.reshape(b, h * factor, w * factor, -1).permute(0, 3, 1, 2)
        return channels_last(image)
