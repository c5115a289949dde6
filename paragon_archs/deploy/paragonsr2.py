"""ParagonSR2 in deploy form.

LayerScales and norms are folded into the convolutions next to them, the head is one
convolution, and the base path is scale^2 filters at low resolution, added to the head's
cells before they are shuffled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.paragonsr2_arch import (
    NUM_HEADS,
    TOKEN_DIM,
    ChannelAttention,
    MagicBase,
    NanoBlock,
    ParagonSR2,
    PhotoBlock,
    ProBlock,
    PublishedBase,
    RMSNorm2d,
    StreamBlock,
    TokenDictionary,
    WindowAttention,
    widen,
)
from .base import DeployNetwork, Folded, column, exact
from .cells import MagicCells, PublishedCells
from .head import MergedHead
from .leaf import Rule, leaf
from .onednn import channels_last, image_of, linear, linear_add, rows_of
from .ops import attention, conv, exporting, fast, in_bands, pointwise, product, roll
from .places import Places, attend, places_of


class _Norm(Folded):
    """RMS norm over channels; its scale can go to the layer behind it."""

    def __init__(self, norm: RMSNorm2d, affine: bool) -> None:
        super().__init__()
        self.eps = norm.eps
        self.affine = affine
        if affine:
            self.keep("scale", exact(norm.scale), norm.scale)
            self.keep("bias", exact(norm.bias), norm.scale)

    @leaf(lambda self, x: Rule())
    def forward(self, x: Tensor) -> Tensor:
        if fast(x):
            rows = rows_of(x)
            norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            factor = norms.square_().div_(rows.shape[1]).add_(self.eps).rsqrt_()
            y = rows * factor
            if self.affine:
                y = torch.addcmul(self.bias.flatten(), y, self.scale.flatten(), out=y)
            return image_of(y, x)
        wide = widen(x)
        wide = wide / torch.sqrt(wide.square().mean(1, keepdim=True) + self.eps)
        y = wide.to(x.dtype)
        return y * self.scale + self.bias if self.affine else y


class _Mixer(Folded):
    """x + gamma * conv2(gelu(dw(conv1(norm(x))))), norm and gamma folded."""

    def __init__(
        self,
        conv1: nn.Conv2d,
        dw: nn.Conv2d,
        conv2: nn.Conv2d,
        gamma: Tensor,
        norm: RMSNorm2d | None = None,
    ) -> None:
        super().__init__()
        like = conv1.weight
        weight, bias = exact(conv1.weight), exact(conv1.bias)
        self.norm = None
        if norm is not None:
            self.norm = _Norm(norm, affine=False)
            bias = bias + weight.flatten(1) @ exact(norm.bias).flatten()
            weight = weight * exact(norm.scale).view(1, -1, 1, 1)
        self.keep("into", weight, like)
        self.keep("into_bias", bias, like)
        self.dw = dw
        self.keep("out", exact(conv2.weight) * column(exact(gamma)), like)
        self.keep("out_bias", exact(conv2.bias) * exact(gamma).flatten(), like)

    @leaf(lambda self, x: Rule(halo=1, inside=2 * len(self.into)))
    def forward(self, x: Tensor) -> Tensor:
        if not fast(x):
            return pointwise(self._hidden(x), self.out, self.out_bias, add=x)

        def step(band: Tensor, own: slice) -> Tensor:
            y = self._hidden(band)[:, :, own]
            return pointwise(y, self.out, self.out_bias, add=band[:, :, own])

        return in_bands(x, x.shape[3] * len(self.into), step)

    def _hidden(self, x: Tensor) -> Tensor:
        """Returns what `conv2` reads, (B, H, rows, W)."""
        y = x if self.norm is None else self.norm(x)
        y = pointwise(y, self.into, self.into_bias)
        return conv(y, self.dw.weight, self.dw.bias, 1, y.shape[1], activation="gelu")


class _Gated(Folded):
    """The stream block: x + gamma * out(a * b)."""

    def __init__(self, block: StreamBlock) -> None:
        super().__init__()
        like = block.proj.weight
        c = block.dw1.in_channels
        self.dw1, self.dw3 = block.dw1, block.dw3
        fuse = exact(block.fuse.weight)
        self.keep("fuse1", fuse[:, :c], like)
        self.keep("fuse3", fuse[:, c:], like)
        self.keep("fuse_bias", exact(block.fuse.bias), like)
        # On a CPU the halves a and b apart, so that each is dense.
        for name, layer in (("proj", block.proj), ("gate", block.gate)):
            self.keep(name, exact(layer.weight), like, off_cpu=True)
            self.keep(f"{name}_bias", exact(layer.bias), like, off_cpu=True)
            for half, part in enumerate(exact(layer.weight).chunk(2)):
                self.keep(f"{name}{half}", part, like)
            for half, part in enumerate(exact(layer.bias).chunk(2)):
                self.keep(f"{name}{half}_bias", part, like)
        gamma = exact(block.scale.gamma)
        self.keep("out", exact(block.out.weight) * column(gamma), like)
        self.keep("out_bias", exact(block.out.bias) * gamma.flatten(), like)

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        y = pointwise(conv(x, self.dw1.weight, self.dw1.bias, 1, c), self.fuse1, None)
        wide = conv(x, self.dw3.weight, self.dw3.bias, 3, c, dilation=3)
        y = pointwise(wide, self.fuse3, self.fuse_bias, add=y)
        if not y.is_cpu:
            y = pointwise(y, self.proj, self.proj_bias)
            a, b = conv(y, self.gate, self.gate_bias, 1, 4 * c).chunk(2, 1)
            return pointwise(product(a, b), self.out, self.out_bias, add=x)
        a = pointwise(y, self.proj0, self.proj0_bias)
        a = conv(a, self.gate0, self.gate0_bias, 1, 2 * c)
        b = pointwise(y, self.proj1, self.proj1_bias)
        b = conv(b, self.gate1, self.gate1_bias, 1, 2 * c)
        return pointwise(product(a, b), self.out, self.out_bias, add=x)


class _Windows(Folded):
    """x + gamma * attention(norm(x)) in (shifted) windows, gamma folded."""

    def __init__(
        self, norm: RMSNorm2d, attention: WindowAttention, gamma: Tensor
    ) -> None:
        super().__init__()
        self.norm = _Norm(norm, affine=True)  # padding is of normalized pixels
        self.window, self.shift = attention.window, attention.shift
        like = attention.qkv.weight
        self.keep("qkv", exact(attention.qkv.weight), like)
        self.keep("qkv_bias", exact(attention.qkv.bias), like)
        factor = exact(gamma).flatten()
        self.keep("proj", exact(attention.proj.weight) * factor[:, None], like)
        self.keep("proj_bias", exact(attention.proj.bias) * factor, like)

    def forward(self, x: Tensor) -> Tensor:
        if not fast(x):
            return x + self.windows(self.norm(x))
        y = self._gathered(self.norm(x))
        y = linear_add(y, rows_of(x), self.proj, self.proj_bias)
        return image_of(y, x)

    def exported(self, x: Tensor, places: Places) -> Tensor:
        """The same in the fewest steps of a graph, with tables that blocks share."""
        y = places.cut(self.norm(x), self.shift)
        y = F.linear(
            attend(y, self.qkv, self.qkv_bias, NUM_HEADS), self.proj, self.proj_bias
        )
        return x + places.join(y, self.shift)

    @leaf(lambda self, x: Rule("window", window=self.window, shift=self.shift))
    def windows(self, x: Tensor) -> Tensor:
        """Attention inside windows of the normalized features, (B, C, H, W)."""
        if fast(x) and x.shape[0] == 1:
            x = channels_last(x)
            return image_of(linear(self._gathered(x), self.proj, self.proj_bias), x)
        b, c, h, w = x.shape
        side, shift = self.window, self.shift
        rows, columns = (h + side - 1) // side, (w + side - 1) // side
        y = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        y = F.pad(y, (0, 0, 0, columns * side - w, 0, rows * side - h))
        if shift:
            y = roll(y, -shift, (1, 2))
        y = y.reshape(b, rows, side, columns, side, c).transpose(2, 3)
        y = y.reshape(-1, side * side, c)
        y = F.linear(self._attend(y), self.proj, self.proj_bias)
        y = y.reshape(b, rows, columns, side, side, c).transpose(2, 3)
        y = y.reshape(b, rows * side, columns * side, c)
        if shift:
            y = roll(y, shift, (1, 2))
        return y[:, :h, :w].permute(0, 3, 1, 2)

    def _gathered(self, x: Tensor) -> Tensor:
        """Returns the attended pixels (H * W, C); only where `fast`.

        Padding, shift and cut into windows are one move of whole pixels each way.
        """
        h, w = x.shape[2:]
        there, back = places_of(h, w, self.window, self.shift)
        rows = rows_of(x)
        if len(there) > len(rows):
            rows = F.pad(rows, (0, 0, 0, 1))
        y = rows.index_select(0, there).view(-1, self.window**2, x.shape[1])
        return self._attend(y).flatten(0, 1).index_select(0, back)

    def _attend(self, x: Tensor) -> Tensor:
        """Attends inside windows (windows, N, C), without the last projection."""
        n, c = x.shape[1:]
        if fast(x):
            qkv = linear(x.flatten(0, 1), self.qkv, self.qkv_bias)
        else:
            qkv = F.linear(x, self.qkv, self.qkv_bias)
        qkv = qkv.reshape(-1, n, 3, NUM_HEADS, c // NUM_HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        y = attention(q, k, v)
        return y.transpose(1, 2).reshape(-1, n, c)


class _Channels(Folded):
    """x + gamma * (x * weights(x)) as one factor per channel: 1 + gamma * weights."""

    def __init__(self, attention: ChannelAttention, gamma: Tensor) -> None:
        super().__init__()
        self.fc = attention.fc
        self.keep("gamma", exact(gamma), gamma)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc(x.mean((2, 3))))
        return x * (1 + self.gamma * weights[:, :, None, None])


class _Tokens(Folded):
    """x + gamma * token_ca(norm(x)); keys and values do not depend on the picture."""

    def __init__(
        self, norm: RMSNorm2d, attention: TokenDictionary, gamma: Tensor
    ) -> None:
        super().__init__()
        like = attention.q_proj.weight
        self.norm = _Norm(norm, affine=False)
        tokens = exact(attention.token_dict)[0]  # (T, C)
        k_proj, v_proj, out = attention.k_proj, attention.v_proj, attention.out_proj
        keys = tokens @ exact(k_proj.weight).t() + exact(k_proj.bias)
        values = tokens @ exact(v_proj.weight).t() + exact(v_proj.bias)
        # scores = keys (q_proj (scale * x + bias) + b) / 4: one 1x1 convolution C -> T.
        query, query_bias = exact(attention.q_proj.weight), exact(attention.q_proj.bias)
        query_bias = query_bias + query @ exact(norm.bias).flatten()
        query = query * exact(norm.scale).view(1, -1)
        factor = TOKEN_DIM**-0.5
        self.keep("score", (keys @ query * factor)[:, :, None, None], like)
        self.keep("score_bias", keys @ query_bias * factor, like)
        # out_proj (values weights) + b, the weights' sum being one: T -> C.
        gammas = exact(gamma).flatten()
        mixed = exact(out.weight) @ values.t() * gammas[:, None]  # (C, T)
        self.keep("value", mixed[:, :, None, None], like)
        self.keep("value_bias", exact(out.bias) * gammas, like)

    def forward(self, x: Tensor) -> Tensor:
        scores = pointwise(self.norm(x), self.score, self.score_bias)
        if fast(x):
            weights = image_of(rows_of(scores).softmax(1), x)
        else:
            weights = scores.softmax(1)
        return pointwise(weights, self.value, self.value_bias, add=x)


def _steps_of(block: nn.Module) -> list[nn.Module]:
    """Returns the residual steps of a block, in deploy form."""
    if isinstance(block, NanoBlock):
        return [_Mixer(block.conv1, block.dw, block.conv2, block.scale.gamma)]
    if isinstance(block, StreamBlock):
        return [_Gated(block)]
    steps: list[nn.Module] = []
    if isinstance(block, PhotoBlock):
        gamma = block.scale.gamma
        steps.append(_Mixer(block.conv1, block.dw, block.conv2, gamma, block.norm))
        if block.has_attention:
            steps.append(_Windows(block.attn_norm, block.attn, gamma))
        return steps
    assert isinstance(block, ProBlock)
    gamma = block.scale1.gamma
    steps.append(_Mixer(block.conv1, block.dw, block.conv2, gamma, block.norm1))
    steps.append(_Channels(block.channel_attn, block.scale2.gamma))
    if block.has_attention:
        gamma = block.scale3.gamma
        steps.append(_Windows(block.norm3, block.window_attn, gamma))
    steps.append(_Tokens(block.norm4, block.token_ca, block.scale4.gamma))
    return steps


class ParagonDeploy2(DeployNetwork):
    """ParagonSR2 in deploy form.

    Args:
        model: The network.
    """

    def __init__(self, model: ParagonSR2) -> None:
        super().__init__(model)
        self.conv_in = model.conv_in
        self.blocks = nn.Sequential(
            *(
                step
                for group in model.body.children()
                for block in group.get_submodule("blocks").children()
                for step in _steps_of(block)
            )
        )
        self.conv_mid = model.conv_mid
        up = model.up[0]
        assert isinstance(up, nn.Conv2d)
        gain = exact(model.detail_gain)
        self.head = MergedHead(up, model.conv_out, self.scale, gain)
        like = model.conv_in.weight
        if isinstance(model.base, PublishedBase):
            self.cells = PublishedCells(model.base, like)
        else:
            assert isinstance(model.base, MagicBase)
            self.cells = MagicCells(model.base.mks2021, like)

    def features(self, x: Tensor) -> Tensor:
        """Returns `conv_in(x)`, (B, F, H, W)."""
        return conv(x, self.conv_in.weight, self.conv_in.bias, 1)

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """Upscales `x` from its (blended) features."""
        y = self._exported(features) if exporting() else self.blocks(features)
        y = conv(y, self.conv_mid.weight, self.conv_mid.bias, 1)
        return self.end(x, y)

    def _exported(self, y: Tensor) -> Tensor:
        """Returns what `blocks` return; all windows share their tables of places."""
        places = Places(y, self.hyperparameters["window_size"])
        for step in self.blocks:
            y = step.exported(y, places) if isinstance(step, _Windows) else step(y)
        return y

    # The head's 3, or the base path's 3 of `sharp` and 2 of the blur (4 of MKS 2021).
    @leaf(lambda self, x, y: Rule(halo=5))
    def end(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns base path and head in one, from the input and the last features."""
        return self.head(y, self.cells(x))

    def run(self, x: Tensor) -> Tensor:
        return self.finish(x, self.features(x))

    def forward(
        self,
        x: Tensor,
        feature_tap: bool = False,
        prev_feat: Tensor | None = None,
        alpha: float = 0.2,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Upscales, and blends features over frames, as the network does.

        Args:
            x: (B, C, H, W) in [0, 1].
            feature_tap: Whether to return the (blended) features too.
            prev_feat: The features of the frame before, (B, num_feat, H, W).
            alpha: Share of `prev_feat` in the blend, 0 to 1.

        Returns:
            (B, C, H * scale, W * scale); with `feature_tap` also the features.
        """
        if prev_feat is None and not feature_tap:
            return super().forward(x)
        quick = fast(x)
        images = [channels_last(i) for i in x.split(1)] if quick else [x]
        features = [self.features(image) for image in images]
        if prev_feat is not None:
            before = prev_feat.split(1) if quick else [prev_feat]
            features = [
                (1 - alpha) * now + alpha * then
                for now, then in zip(features, before, strict=True)
            ]
        if quick:
            features = [channels_last(f) for f in features]
        parts = [self.finish(i, f) for i, f in zip(images, features, strict=True)]
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        tapped = features[0] if len(features) == 1 else torch.cat(features)
        return (y, tapped) if feature_tap else y
