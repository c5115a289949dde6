"""FusionSR in deploy form.

The mix of the two shallow paths is folded into their last convolutions, residual
scales into one factor per channel, and windows of one kind share one mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.fusionsr_arch import FusionSR, RCABlock, ShallowExtractor, SwinBlock
from .base import DeployNetwork, Folded, exact
from .leaf import Rule, leaf
from .onednn import image_of, linear, linear_add
from .ops import (
    attention,
    conv,
    exporting,
    fast,
    pointwise,
    recorded,
    roll,
    shuffle,
    widen_norm,
)
from .places import Places, attend


def _apply(layer: nn.Module, x: Tensor, activation: str = "none") -> Tensor:
    """A 3x3 convolution that keeps the size, and its activation."""
    assert isinstance(layer, nn.Conv2d)
    return conv(x, layer.weight, layer.bias, 1, activation=activation)


class _Shallow(Folded):
    """(1 - m) original + m enhanced, the factors inside the last convolutions."""

    def __init__(self, extractor: ShallowExtractor) -> None:
        super().__init__()
        self.original = nn.ModuleList(extractor.original_path)
        last = extractor.original_path[4]
        assert isinstance(last, nn.Conv2d)
        like = last.weight
        weight, bias = exact(last.weight), exact(last.bias)
        self.enhanced = None
        if extractor.use_rca:
            self.enhanced = nn.ModuleList(extractor.enhanced_path)
            m = torch.sigmoid(exact(extractor.mix_weight))
            last = extractor.enhanced_path[4]
            assert isinstance(last, nn.Conv2d)
            self.keep("second", m * exact(last.weight), like)
            weight = (1 - m) * weight
            bias = (1 - m) * bias + m * exact(last.bias)
        self.keep("first", weight, like)
        self.keep("bias", bias, like)

    def forward(self, x: Tensor) -> Tensor:
        y = _apply(self.original[0], x, "gelu")
        y = _apply(self.original[2], y, "gelu")
        y = pointwise(y, self.first, self.bias)
        if self.enhanced is None:
            return y
        z = _apply(self.enhanced[0], x, "gelu")
        for index in (2, 3):
            block = self.enhanced[index]
            assert isinstance(block, RCABlock)
            z = _rca(block, z)
        return pointwise(z, self.second, None, add=y)


def _rca(block: RCABlock, x: Tensor) -> Tensor:
    y = _apply(block.conv_block[0], x, "gelu")
    y = _apply(block.conv_block[2], y)
    weights = torch.sigmoid(block.channel_attention.fc(y.mean((2, 3), keepdim=True)))
    return torch.addcmul(x, block.residual_scale * (0.5 + 0.5 * weights), y)


class _Swin(Folded):
    """A Swin block; eager, every window of the inner image shares one bias.

    Only windows of the last row and column mix regions after the shift, so there are
    four kinds of windows, and no mask of the whole image is ever built.
    """

    def __init__(self, block: SwinBlock) -> None:
        super().__init__()
        self.block = block
        attention = block.attn
        # Fused attention on GPUs wants heads of a multiple of 8: zeros change no score.
        heads, like = attention.num_heads, attention.qkv.weight
        size = attention.qkv.in_features // heads
        self.head = size + -size % 8
        rows = (0, 0, 0, self.head - size)
        qkv = F.pad(exact(like).view(3, heads, size, -1), rows)
        self.keep("qkv", qkv.flatten(0, 2), like, off_cpu=True)
        qkv_bias = exact(attention.qkv.bias).view(3, heads, size, 1)
        self.keep("qkv_bias", F.pad(qkv_bias, rows).flatten(), like, off_cpu=True)
        proj = exact(attention.proj.weight).view(-1, heads, size)
        proj = F.pad(proj, (0, self.head - size)).flatten(1)
        self.keep("proj", proj, like, off_cpu=True)
        n = block.window**2
        index = attention.relative_position_index.flatten()
        bias = exact(attention.relative_position_bias_table)[index.cpu()]
        bias = bias.view(n, n, -1).permute(2, 0, 1)  # (heads, N, N)
        at = torch.arange(block.window)
        cut = (at >= block.window - block.shift).long()
        kinds = []
        for kind in range(4 if block.shift else 1):  # 2: last row, 1: last column
            regions = ((kind & 2) * cut[:, None] + (kind & 1) * cut).flatten()
            kinds.append(bias - 100.0 * (regions[:, None] != regions))
        self.keep("bias", torch.stack(kinds), attention.qkv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to the same."""
        return self._feed(x + self._attend(widen_norm(self.block.norm1, x)))

    def exported(self, x: Tensor, places: Places) -> Tensor:
        """The same in the fewest steps of a graph, with tables that blocks share."""
        shift, attention = self.block.shift, self.block.attn
        bias = self.bias
        if shift:
            bias = bias.index_select(0, places.kinds())
        y = widen_norm(self.block.norm1, x).permute(0, 3, 1, 2)
        y = places.cut(y, shift)
        qkv = attention.qkv
        y = attention.proj(attend(y, qkv.weight, qkv.bias, attention.num_heads, bias))
        return self._feed(x + places.join(y, shift).permute(0, 2, 3, 1))

    # Its hidden layer and its normed input.
    @leaf(
        lambda self, x: Rule(
            inside=sum(layer.out_features for layer in self.block.mlp[:3:2])
        )
    )
    def _feed(self, x: Tensor) -> Tensor:
        """Adds the two layers behind the attention, pixel by pixel."""
        norm, up, down = self.block.norm2, self.block.mlp[0], self.block.mlp[2]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        if not fast(x):
            return x + down(F.gelu(up(widen_norm(norm, x))))
        y = linear(norm(x).flatten(0, 2), up.weight, up.bias, "gelu")
        y = linear_add(y, x.reshape(-1, x.shape[-1]), down.weight, down.bias)
        return y.view(x.shape)

    @leaf(
        lambda self, x, padded=None: Rule(
            "window",
            window=self.block.window,
            shift=self.block.shift,
            masked=self.block.shift > 0,
        )
    )
    def _attend(self, x: Tensor, padded: bool | None = None) -> Tensor:
        padded = not x.is_cpu if padded is None else padded
        b, h, w, c = x.shape
        side, shift = self.block.window, self.block.shift
        rows, columns = (h + side - 1) // side, (w + side - 1) // side
        x = F.pad(x, (0, 0, 0, columns * side - w, 0, rows * side - h))
        if shift:
            x = roll(x, -shift, (1, 2))
        x = x.reshape(b, rows, side, columns, side, c).transpose(2, 3)
        if recorded():
            # A graph has no windows of its own size for each kind: one mask for all.
            mask = self.block.mask(rows, columns) if shift else None
            y = self.block.attn(x.reshape(-1, side**2, c), mask)
        else:
            y = self._inside(x.reshape(b, rows, columns, side**2, c), padded)
        y = y.view(b, rows, columns, side, side, c).transpose(2, 3)
        y = y.reshape(b, rows * side, columns * side, c)
        if shift:
            y = roll(y, shift, (1, 2))
        return y[:, :h, :w]

    def _inside(self, x: Tensor, padded: bool) -> Tensor:
        """Attends inside windows (B, rows, columns, N, D), one kind at a time.

        With `padded`, heads have a multiple of 8 values, as fused attention on GPUs
        wants them.
        """
        b, rows, columns, n, c = x.shape
        module = self.block.attn
        heads = module.num_heads
        size = c // heads
        scale = size**-0.5
        if padded:
            qkv, size = F.linear(x.reshape(-1, c), self.qkv, self.qkv_bias), self.head
        else:
            qkv = _linear(x.reshape(-1, c), module.qkv)
        qkv = qkv.view(b, rows, columns, n, 3, heads, size)
        q, k, v = qkv.permute(4, 0, 1, 2, 5, 3, 6).unbind()
        y = x.new_empty(b, rows, columns, n, heads, size)
        for place, bias in self._kinds():
            parts = [t[place].flatten(0, 2) for t in (q, k, v)]
            if parts[0].shape[0]:
                found = attention(*parts, mask=bias, scale=scale if padded else None)
                y[place] = found.transpose(1, 2).view(y[place].shape)
        if padded:
            return F.linear(y.view(-1, heads * size), self.proj, module.proj.bias)
        return _linear(y.view(-1, c), module.proj)

    def _kinds(self) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Yields which windows (batch, rows, columns) share which bias (1, h, N, N)."""
        every, inner, last = slice(None), slice(None, -1), slice(-1, None)
        if not self.block.shift:
            yield (every, every, every), self.bias
            return
        for kind, bias in enumerate(self.bias.split(1)):
            rows, columns = (last if kind & bit else inner for bit in (2, 1))
            yield (every, rows, columns), bias


def _linear(rows: Tensor, layer: nn.Linear) -> Tensor:
    return linear(rows, layer.weight, layer.bias) if fast(rows) else layer(rows)


class FusionDeploy(DeployNetwork):
    """FusionSR in deploy form.

    Args:
        model: The network.
    """

    def __init__(self, model: FusionSR) -> None:
        super().__init__(model)
        self.shallow = _Shallow(model.conv_first)
        blocks = []
        for block in model.body:
            assert isinstance(block, SwinBlock)
            blocks.append(_Swin(block))
        self.body = nn.Sequential(*blocks)
        self.fusion = nn.ModuleList(model.feature_fusion)
        self.up = model.upsample[0]

    def run(self, x: Tensor) -> Tensor:
        shallow = self.shallow(x)
        deep = shallow.permute(0, 2, 3, 1)
        if exporting():
            places = Places(x, self.hyperparameters["window_size"])
            for block in self.body:
                assert isinstance(block, _Swin)
                deep = block.exported(deep, places)
        else:
            deep = self.body(deep)
        if fast(x):
            deep = image_of(deep.reshape(-1, deep.shape[-1]), x)
        else:
            deep = deep.permute(0, 3, 1, 2)
        mix, last = self.fusion[0], self.fusion[2]
        assert isinstance(mix, nn.Conv2d)
        y = pointwise(torch.cat((shallow, deep), 1), mix.weight, mix.bias, "gelu")
        return shuffle(_apply(self.up, _apply(last, y)), self.scale)
