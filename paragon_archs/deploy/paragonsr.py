"""ParagonSR in deploy form.

LayerScales are folded into the kernels before them, group norms into the 1x1
convolutions behind them, and the two convolutions of the head into one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.paragonsr_arch import (
    SMALL,
    ParagonBlock,
    ParagonSR,
    image_moments,
    with_moments,
)
from ..utils.halves import HALVES
from .base import DeployNetwork, Folded, column, exact
from .head import MergedHead
from .leaf import Rule, leaf
from .onednn import image_of, rows_of
from .ops import (
    conv,
    fast,
    in_bands,
    mish,
    mish_of_negative,
    moments,
    pointwise,
    recorded,
)

EPS = 1e-5


Norm = tuple[Tensor, Tensor]
"""Mean and 1 / sqrt(variance + EPS) of one image, both (1) in float64."""


def group_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    norm: Norm | None = None,
) -> Tensor:
    """Group norm with one group; its squares in at least float32.

    Torch's kernel widens by itself; in an exported graph the cast has to be written.
    With `norm`, `x` is part of an image of which these are the statistics.
    """
    if norm is not None and x.is_cpu:
        mean, scale = norm
        y = torch.addcmul((-mean * scale).to(x.dtype), x, scale.to(x.dtype))
        return y if weight is None or bias is None else _affine(y, weight, bias)
    if norm is not None:
        mean, scale = (t[None] for t in norm)
        return with_moments(x, mean, scale, weight, bias)
    if x.dtype in HALVES and recorded():
        wide = (
            None if weight is None or bias is None else (weight.float(), bias.float())
        )
        y = F.group_norm(x.float(), 1, *(wide or (None, None)), EPS)
        return y.to(x.dtype)
    if x.is_cpu or recorded() or x[0].numel() < SMALL:
        return F.group_norm(x, 1, weight, bias, EPS)
    mean, variance = image_moments(x)
    return with_moments(x, mean, torch.rsqrt(variance + EPS), weight, bias)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addcmul(bias[:, None, None], x, weight[:, None, None])


class ParagonDeployBlock(Folded):
    """A block whose group norms and LayerScales are folded away."""

    def __init__(self, block: ParagonBlock) -> None:
        super().__init__()
        like = block.ls1.gamma
        gamma1, gamma2 = exact(block.ls1.gamma), exact(block.ls2.gamma)
        weight1, bias1 = exact(block.norm1.weight), exact(block.norm1.bias)
        context = block.context
        self.split = list(context.split)
        identity, g = self.split[0], self.split[1]
        self.branches = (context.dwconv_hw, context.dwconv_w, context.dwconv_h)
        # Identity channels: x + gamma (a x + c), with a and c the norm's; the other
        # channels: x + (gamma kernel) * (a x + c), whose padding is of normalized
        # pixels, so the norm stays in front of them.
        share = torch.cat((gamma1[:identity], torch.ones(3 * g, dtype=torch.float64)))
        self.keep("norm_weight", weight1 * share, like)
        self.keep("norm_bias", bias1 * share, like)
        shift = torch.zeros_like(gamma1)
        self.paddings = []
        for index, layer in enumerate(self.branches):
            start = identity + index * g
            gammas = gamma1[start : start + g]
            self.keep(f"kernel{index}", exact(layer.weight) * column(gammas), like)
            self.keep(f"bias{index}", exact(layer.bias) * gammas, like)
            shift[start : start + g] = exact(layer.bias) * gammas
            self.paddings.append(tuple(k // 2 for k in layer.kernel_size))
        del self.branches
        self.keep("shift", shift, like)
        passed = torch.zeros_like(gamma1)
        passed[:identity] = 1
        self.keep("passed", passed, like)
        self.keep("unscaled", torch.ones_like(passed), like)

        ffn = block.transformer
        weight2, bias2 = exact(block.norm2.weight), exact(block.norm2.bias)
        for name, layer in (("gate", ffn.project_in_g), ("inner", ffn.project_in_i)):
            matrix = exact(layer.weight)
            folded = matrix * weight2.view(1, -1, 1, 1)
            self.keep(name, folded, like)
            self.keep(
                f"{name}_bias",
                exact(layer.bias) + matrix.flatten(1) @ bias2,
                like,
            )
            # What a shift of all features by one does to the result.
            self.keep(f"{name}_sum", folded.flatten(1).sum(1), like)
        mixer = ffn.spatial_mixer
        assert isinstance(mixer, nn.Conv2d)  # the model comes fused
        self.keep("mixer", exact(mixer.weight), like)
        self.keep("mixer_bias", exact(mixer.bias), like)
        self.keep("negative_mixer", -exact(mixer.weight), like)
        self.keep("negative_mixer_bias", -exact(mixer.bias), like)
        self.keep("out", exact(ffn.project_out.weight) * column(gamma2), like)
        self.keep("out_bias", exact(ffn.project_out.bias) * gamma2, like)

    def forward(self, x: Tensor) -> Tensor:
        return self.feed(self.mix(x))

    def _kernels(self) -> list[tuple[Tensor, Tensor]]:
        """Returns kernel and bias of the square, the wide and the tall branch."""
        return [
            (self.get_buffer(f"kernel{i}"), self.get_buffer(f"bias{i}"))
            for i in range(3)
        ]

    @leaf(
        lambda self, x: Rule(
            "norm",
            halo=max(rows for rows, _ in self.paddings),
            given=True,
            inside=2 * len(self.shift),
        )
    )
    def mix(self, x: Tensor, norm: Norm | None = None) -> Tensor:
        """Adds the branches of the normed features to (B, C, H, W); B is 1 if `fast`.

        Args:
            x: The features, of an image or of some rows.
            norm: The image's statistics where `x` is not all of it.
        """
        if fast(x):
            return self._mix(x, *_statistics(x, norm))
        y = group_norm(x, self.norm_weight, self.norm_bias, norm)
        parts = list(torch.split(y, self.split, dim=1))
        for index, (kernel, bias) in enumerate(self._kernels(), start=1):
            groups = kernel.shape[0]
            padding = self.paddings[index - 1]
            parts[index] = conv(parts[index], kernel, bias, padding, groups)
        return x + torch.cat(parts, dim=1)

    @leaf(lambda self, x: Rule("norm", halo=1, given=True, inside=3 * len(self.gate)))
    def feed(self, x: Tensor, norm: Norm | None = None) -> Tensor:
        """Adds the gated step of the normed features; like `mix`."""
        if fast(x):
            return self._feed(x, *_statistics(x, norm))
        y = group_norm(x, norm=norm)
        gate = pointwise(y, self.gate, self.gate_bias)
        gate = mish(conv(gate, self.mixer, self.mixer_bias, 1, gate.shape[1]))
        y = pointwise(y, self.inner, self.inner_bias, mul=gate)
        return pointwise(y, self.out, self.out_bias, add=x)

    def _mix(self, x: Tensor, mean: float, scale: float) -> Tensor:
        weight = self.norm_weight * scale
        bias = self.norm_bias - weight * mean
        rows = rows_of(x)
        # Identity channels whole; the others get their own bias here.
        y = torch.addcmul(
            torch.addcmul(self.shift, bias, self.passed),
            rows,
            torch.addcmul(self.unscaled, weight, self.passed),
        )
        start = self.split[0]
        for (kernel, _), padding in zip(self._kernels(), self.paddings, strict=True):
            at = slice(start, start + kernel.shape[0])
            part = torch.addcmul(bias[at], rows[:, at], weight[at])
            part = conv(image_of(part, x), kernel, None, padding, kernel.shape[0])
            y[:, at].add_(rows_of(part))
            start = at.stop
        return image_of(y, x)

    def _feed(self, x: Tensor, mean: float, scale: float) -> Tensor:
        gate_in = self._normed("gate", mean, scale)
        inner_in = self._normed("inner", mean, scale)
        mixer, bias = self.negative_mixer, self.negative_mixer_bias

        def step(band: Tensor, own: slice) -> Tensor:
            gate = pointwise(band, *gate_in)
            gate = conv(gate, mixer, bias, 1, len(mixer))[:, :, own]
            part = band[:, :, own]
            y = pointwise(part, *inner_in, mul=mish_of_negative(gate))
            return pointwise(y, self.out, self.out_bias, add=part)

        return in_bands(x, x.shape[3] * len(mixer), step)

    def _normed(self, name: str, mean: float, scale: float) -> tuple[Tensor, Tensor]:
        """Returns weight and bias of a 1x1 convolution with the norm before it."""
        shift = torch.sub(
            self.get_buffer(f"{name}_bias"),
            self.get_buffer(f"{name}_sum"),
            alpha=mean * scale,
        )
        return self.get_buffer(name) * scale, shift


def _statistics(x: Tensor, norm: Norm | None) -> tuple[float, float]:
    return moments(x, EPS) if norm is None else (float(norm[0]), float(norm[1]))


class ParagonDeploy(DeployNetwork):
    """ParagonSR in deploy form.

    Args:
        model: The network, fused.
    """

    def __init__(self, model: ParagonSR) -> None:
        super().__init__(model)
        self.conv_in = model.conv_in
        self.groups = nn.ModuleList(
            nn.ModuleList(
                ParagonDeployBlock(b)
                for b in group.modules()
                if isinstance(b, ParagonBlock)
            )
            for group in model.body.children()
        )
        self.conv_fuse = model.conv_fuse
        up = model.upsampler[0]
        assert isinstance(up, nn.Conv2d)
        self.head = MergedHead(up, model.conv_out, self.scale)

    def run(self, x: Tensor) -> Tensor:
        shallow = conv(x, self.conv_in.weight, self.conv_in.bias, 1)
        x = shallow
        for group in self.groups:
            kept = x
            assert isinstance(group, nn.ModuleList)
            for block in group:
                x = block(x)
            x = x + kept
        x = conv(x, self.conv_fuse.weight, self.conv_fuse.bias, 1, add=shallow)
        return self.head(x)
