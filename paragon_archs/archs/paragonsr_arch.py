"""ParagonSR: a reparameterizable convolutional super-resolution network.

Origin: ParagonSR by Philip Hofmann (MIT), built here from its published layout. MIT.
Particular: a gated feed-forward whose depthwise 3x3 is three parallel branches in
training. Their sum is linear, so the forward folds them into one kernel on the fly
(same gradients, one convolution); `fuse` makes the fold permanent.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from ..utils.registry import ARCH_REGISTRY

VARIANTS: dict[str, dict[str, Any]] = {
    "paragonsr_nano": {
        "num_feat": 24,
        "num_groups": 3,
        "num_blocks": 2,
        "ffn_expansion": 1.5,
    },
    "paragonsr_tiny": {
        "num_feat": 32,
        "num_groups": 3,
        "num_blocks": 3,
        "ffn_expansion": 2.0,
    },
    "paragonsr_xs": {
        "num_feat": 48,
        "num_groups": 4,
        "num_blocks": 4,
        "ffn_expansion": 2.0,
    },
    "paragonsr_s": {
        "num_feat": 64,
        "num_groups": 6,
        "num_blocks": 6,
        "ffn_expansion": 2.0,
    },
    "paragonsr_m": {
        "num_feat": 96,
        "num_groups": 8,
        "num_blocks": 8,
        "ffn_expansion": 2.0,
    },
    "paragonsr_l": {
        "num_feat": 128,
        "num_groups": 10,
        "num_blocks": 10,
        "ffn_expansion": 2.0,
    },
    "paragonsr_xl": {
        "num_feat": 160,
        "num_groups": 12,
        "num_blocks": 12,
        "ffn_expansion": 2.0,
    },
}

MAX_SCALE = 8
FULL_PRECISION = (torch.float32, torch.float64)
# Values of a group up to which torch's kernel is the faster one on an H200: it takes
# 0.1 ms for the first number, and in training those of a batch at once.
SMALL, SMALL_IN_TRAINING = 2**17, 2**21


def image_moments(x: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of each image's groups of channels.

    Args:
        x: (B, C, H, W), in any layout.
        groups: Groups of channels.

    Returns:
        Both (B, groups), in at least float32.
    """
    parts, dims = x.unflatten(1, (groups, -1)), (2, 3, 4)
    if x.dtype in FULL_PRECISION:
        variance, mean = torch.var_mean(parts, dims, correction=0)
        return mean, variance
    # `var_mean` would round its results. Squares far from zero lose digits: first the
    # mean is taken out, what it is in half precision exactly.
    mean = parts.mean(dims, dtype=torch.float32)
    near = mean.to(x.dtype)
    gaps = parts - near[..., None, None, None]
    norm = torch.linalg.vector_norm(gaps, dim=dims, dtype=torch.float32)
    left = mean - near
    return mean, torch.addcmul(norm.square() / gaps[0, 0].numel(), left, left, value=-1)


def with_moments(
    x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Returns `(x - mean) * scale * weight + bias`, rounded once.

    Args:
        x: (B, C, H, W).
        mean: (B, groups).
        scale: 1 / sqrt(variance + eps), (B, groups).
        weight: (C) or None.
        bias: (C) or None.
    """
    if mean.shape[1] > 1:
        each = x.shape[1] // mean.shape[1]
        mean, scale = (t.repeat_interleave(each, 1) for t in (mean, scale))
    factor = scale if weight is None else scale * weight
    if bias is None:
        summand = -mean * factor
    else:
        summand = torch.addcmul(bias.to(mean.dtype), mean, factor, value=-1)
    factor, summand = factor[..., None, None], summand[..., None, None]
    return torch.addcmul(summand, x, factor).to(x.dtype)


class _ImageNorm(torch.autograd.Function):
    """A group norm in a few reductions over all of the image, each way."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        mean, variance = image_moments(x, groups)
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, scale)
        return with_moments(x, mean, scale, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override] (torch declares it without names)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        groups, each = mean.shape[1], x.shape[1] // mean.shape[1]
        count = x[0].numel() // groups
        sums = grad.sum((2, 3), dtype=mean.dtype)  # (B, C)
        products = (grad * x.to(mean.dtype)).sum((2, 3))
        wide = mean.repeat_interleave(each, 1), scale.repeat_interleave(each, 1)
        grad_weight = ((products - wide[0] * sums) * wide[1]).sum(0)

        def of_groups(values: Tensor) -> Tensor:  # (B, C) to (B, groups)
            return (values * weight).unflatten(1, (groups, each)).sum(2)

        # dx = scale (w dy - mean(w dy) - normed mean(w dy normed))
        slope = -(scale**3) * (of_groups(products) - mean * of_groups(sums)) / count
        constant = -slope * mean - scale * of_groups(sums) / count
        slope, constant = (
            t.repeat_interleave(each, 1)[..., None, None] for t in (slope, constant)
        )
        grad_x = torch.addcmul(constant, x, slope)
        grad_x = torch.addcmul(grad_x, grad, (wide[1] * weight)[..., None, None])
        grad_weight = grad_weight.to(weight.dtype)
        return grad_x.to(x.dtype), grad_weight, sums.sum(0).to(weight.dtype), None, None


class ImageNorm(nn.GroupNorm):
    """A group norm of few groups and large images, on a GPU as on a CPU.

    torch's CUDA kernel gives each group of an image one block of threads, and copies
    channels-last maps; here every one takes part, in either layout.
    """

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            y = F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        else:
            y = self.choose(input)
        return y

    @torch.jit.unused
    def choose(self, x: Tensor) -> Tensor:
        """Returns it by torch's kernel, or by reductions over all of the image."""
        least = SMALL_IN_TRAINING if torch.is_grad_enabled() else SMALL
        if (
            x.is_cpu
            or x.is_meta
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
            or has_torch_function_unary(x)  # recorded: as one step
            or x[0].numel() < self.num_groups * least
        ):
            return super().forward(x)
        return self.on_gpu(x)

    def on_gpu(self, x: Tensor) -> Tensor:
        """Returns the same, by reductions over all of the image."""
        with torch.autocast(x.device.type, enabled=False):
            y = _ImageNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        assert isinstance(y, Tensor)
        return y


class LayerScale(nn.Module):
    """A learnable factor per channel on a residual branch (CaiT, 2021)."""

    def __init__(self, channels: int, init_value: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), init_value))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Returns `x + gamma * branch`, both (B, C, H, W), in one pass."""
        return torch.addcmul(x, self.gamma.view(1, -1, 1, 1), branch)


def surrounded(kernel: Tensor) -> Tensor:
    """Returns 1x1 kernels as 3x3 ones with zeros around their values."""
    if not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return F.pad(kernel, (1, 1, 1, 1))
    zero = torch.zeros_like(kernel)  # exporters lose the shape of a padded kernel
    column = torch.cat((zero, kernel, zero), 2)
    zeros = torch.zeros_like(column)
    return torch.cat((zeros, column, zeros), 3)


class ReparamConv(nn.Module):
    """Depthwise 3x3 of three parallel branches that are summed (`ReparamConvV3`).

    With `branch_scales` each branch also has a learnable scalar; released weights hold
    plain sums, so it is off by default and absent from the state dict.
    """

    def __init__(self, channels: int, branch_scales: bool = False) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.conv1x1 = nn.Conv2d(channels, channels, 1, groups=channels)
        self.dw_conv3x3 = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        if branch_scales:
            self.branch_scales = nn.Parameter(torch.ones(3))
        else:
            self.branch_scales = None

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Returns weight (C, 1, 3, 3) and bias (C) of the one equal convolution."""
        branches = (self.conv3x3, self.conv1x1, self.dw_conv3x3)
        weights = [b.weight for b in branches]
        weights[1] = surrounded(weights[1])
        biases = [b.bias for b in branches if b.bias is not None]
        if self.branch_scales is not None:
            scales = self.branch_scales.unbind()
            weights = [s * w for s, w in zip(scales, weights, strict=True)]
            biases = [s * b for s, b in zip(scales, biases, strict=True)]
        return (
            weights[0] + weights[1] + weights[2],
            biases[0] + biases[1] + biases[2],
        )

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.kernel()
        return F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """Returns the equal depthwise convolution, summed in float64."""
        fused = copy.deepcopy(self.conv3x3)
        # On the CPU: not every device has float64.
        weight, bias = copy.deepcopy(self).cpu().double().kernel()
        fused.weight.copy_(weight.to(fused.weight.dtype))
        assert fused.bias is not None
        fused.bias.copy_(bias.to(fused.bias.dtype))
        return fused


class InceptionDWConv(nn.Module):
    """Depthwise context: identity, square, wide and tall kernels on channel groups."""

    def __init__(
        self,
        channels: int,
        square_kernel_size: int = 3,
        band_kernel_size: int = 11,
        branch_ratio: float = 0.125,
    ) -> None:
        super().__init__()
        g = int(channels * branch_ratio)
        if not 1 <= g <= channels // 3:
            raise ValueError(
                "Expected branch_ratio to give each of the three branches 1 to "
                f"num_feat / 3 channels, but got {branch_ratio!r} ({g} of {channels}). "
                "Use 0.125, the published value."
            )
        k, band = square_kernel_size, band_kernel_size
        self.dwconv_hw = nn.Conv2d(g, g, k, padding=k // 2, groups=g)
        self.dwconv_w = nn.Conv2d(g, g, (1, band), padding=(0, band // 2), groups=g)
        self.dwconv_h = nn.Conv2d(g, g, (band, 1), padding=(band // 2, 0), groups=g)
        self.split = [channels - 3 * g, g, g, g]

    def forward(self, x: Tensor) -> Tensor:
        identity, square, width, height = torch.split(x, self.split, dim=1)
        return torch.cat(
            (
                identity,
                self.dwconv_hw(square),
                self.dwconv_w(width),
                self.dwconv_h(height),
            ),
            dim=1,
        )


class _GatedMish(torch.autograd.Function):
    """mish(gate) * inner in few passes over memory, forwards and backwards.

    With s = sigmoid(-x): tanh(softplus(x)) = (1 - s^2) / (1 + s^2), finite for every x.
    torch's own mish computes three transcendental functions an element each way, which
    on a CPU takes a fifth of a training step.
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, inner: Tensor) -> Tensor:
        s = gate.neg().sigmoid_()
        square = s * s
        t = (1 - square).div_(square.add_(1))
        ctx.save_for_backward(gate, inner, s, t)
        return (gate * t).mul_(inner)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override] (torch declares it without names)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        gate, inner, s, t = ctx.saved_tensors
        grad_inner = (grad * gate).mul_(t)
        # mish' = t + x (1 - t^2) sigmoid(x)
        slope = (1 - t * t).mul_(1 - s).mul_(gate).add_(t)
        return slope.mul_(grad).mul_(inner), grad_inner


def gated_mish(gate: Tensor, inner: Tensor) -> Tensor:
    """Returns mish(gate) * inner."""
    if gate.requires_grad and gate.is_cpu and gate.dtype in FULL_PRECISION:
        return _GatedMish.apply(gate, inner)
    return F.mish(gate) * inner


class GatedFFN(nn.Module):
    """out(mish(mixer(gate(x))) * inner(x)): a gated linear unit with spatial gate."""

    def __init__(
        self, channels: int, expansion: float, branch_scales: bool = False
    ) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in_g = nn.Conv2d(channels, hidden, 1)
        self.project_in_i = nn.Conv2d(channels, hidden, 1)
        self.spatial_mixer = ReparamConv(hidden, branch_scales)
        self.project_out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.spatial_mixer(self.project_in_g(x))
        return self.project_out(gated_mish(gate, self.project_in_i(x)))


class ParagonBlock(nn.Module):
    """x + ls1 * context(norm1(x)), then x + ls2 * transformer(norm2(x))."""

    def __init__(
        self,
        channels: int,
        ffn_expansion: float,
        branch_scales: bool,
        **context: Any,
    ) -> None:
        super().__init__()
        self.norm1 = ImageNorm(1, channels)
        self.context = InceptionDWConv(channels, **context)
        self.ls1 = LayerScale(channels)
        self.norm2 = ImageNorm(1, channels)
        self.transformer = GatedFFN(channels, ffn_expansion, branch_scales)
        self.ls2 = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ls1(x, self.context(self.norm1(x)))
        return self.ls2(x, self.transformer(self.norm2(x)))


class ParagonGroup(nn.Module):
    """A row of blocks with a skip around it: blocks(x) + x."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x) + x


@ARCH_REGISTRY.register()
class ParagonSR(nn.Module):
    """ParagonSR, training form; `fuse_model` turns it into the fused form.

    Args:
        scale: Upscaling factor, 1 to 8.
        in_chans: Channels of the input and of the output.
        num_feat: Width of the body (F).
        num_groups: Residual groups.
        num_blocks: Blocks in a group.
        ffn_expansion: Hidden width of the feed-forward over F.
        square_kernel_size: Side of the context's square kernel, odd.
        band_kernel_size: Length of the context's wide and tall kernels, odd.
        branch_ratio: Share of F that each of the context's kernels works on.
        branch_scales: Whether each reparameterizable branch has a learnable scalar.

    Raises:
        ValueError: for a scale outside 1 to 8, an even kernel or a branch ratio that
            leaves a branch empty.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        in_chans: int = 3,
        num_feat: int = 64,
        num_groups: int = 6,
        num_blocks: int = 6,
        ffn_expansion: float = 2.0,
        square_kernel_size: int = 3,
        band_kernel_size: int = 11,
        branch_ratio: float = 0.125,
        branch_scales: bool = False,
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
        for name in ("square_kernel_size", "band_kernel_size"):
            if hyperparameters[name] < 1 or hyperparameters[name] % 2 != 1:
                raise ValueError(
                    f"Expected {name} to be odd and positive, but got "
                    f"{hyperparameters[name]!r}. An even kernel would shift the image."
                )
        self.scale = scale

        def block() -> ParagonBlock:
            return ParagonBlock(
                num_feat,
                ffn_expansion,
                branch_scales,
                square_kernel_size=square_kernel_size,
                band_kernel_size=band_kernel_size,
                branch_ratio=branch_ratio,
            )

        self.conv_in = nn.Conv2d(in_chans, num_feat, 3, 1, 1)
        self.body = nn.Sequential(
            *(
                ParagonGroup(*(block() for _ in range(num_blocks)))
                for _ in range(num_groups)
            )
        )
        self.conv_fuse = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(num_feat, num_feat * scale * scale, 3, 1, 1),
            nn.PixelShuffle(scale),
        )
        self.conv_out = nn.Conv2d(num_feat, in_chans, 3, 1, 1)

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuses `torch.jit.script`, which would fail at some line with no advice."""
        raise TypeError(
            "Expected torch.jit.trace for this network, but got torch.jit.script. One "
            "trace serves every size: torch.jit.trace(network, torch.rand(1, 3, 64, "
            "64))."
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscales `x` (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        shallow = self.conv_in(x)
        deep = self.conv_fuse(self.body(shallow)) + shallow
        return self.conv_out(self.upsampler(deep))


@ARCH_REGISTRY.register()
def paragonsr_nano(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Nano, 3 groups of 2 blocks, 24 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_nano"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_tiny(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Tiny, 3 groups of 3 blocks, 32 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_tiny"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_xs(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Extra small, 4 groups of 4 blocks, 48 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_xs"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_s(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Small, 6 groups of 6 blocks, 64 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_s"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_m(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Medium, 8 groups of 8 blocks, 96 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_m"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_l(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Large, 10 groups of 10 blocks, 128 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_l"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr_xl(scale: int = 4, **overrides: Any) -> ParagonSR:
    """Extra large, 12 groups of 12 blocks, 160 channels."""
    return ParagonSR(scale=scale, **{**VARIANTS["paragonsr_xl"], **overrides})
