"""FaceSR: the small CelebA face network, 128 to 512 pixels with 134,199 parameters.

Origin: a published description of work in progress (5x5 entry to 64 maps, PixelShuffle,
residual blocks with group normalization that refine); this layout has its exact count.
MIT.
Particular: most of the residual blocks work at the high resolution, 12 channels wide.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from ..utils.registry import ARCH_REGISTRY

VARIANTS: dict[str, dict[str, Any]] = {
    "facesr": {"num_feat": 64, "mid_feat": 16, "refine_feat": 12, "num_refine": 4},
}

MAX_SCALE = 8
FULL_PRECISION = (torch.float32, torch.float64)
# Values of a group up to which torch's kernel is the faster one on an H200: it takes
# 0.1 ms for the first number, and in training those of a batch at once.
SMALL, SMALL_IN_TRAINING = 2**17, 2**21
NORM_GROUPS = 4  # of each group norm; leaves no trace in the weights


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


class NormResidual(nn.Module):
    """x + conv2(relu(norm(conv1(x)))), norm over groups of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = ImageNorm(NORM_GROUPS, channels)
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
