"""The few operators that deploy forms are made of, each in two ways.

Plain torch operators are the meaning: they run on every device and in every dtype, and
are what exporters and compilers see. On a CPU in float32 the same steps go straight to
oneDNN, on channels-last tensors, with the activation or the residual fused: torch's own
dispatch hands 1x1 convolutions of one thread to a matrix library that is slower on many
processors, and walks over memory once more for every activation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..utils.halves import HALVES
from .bias import add_bias, comes_apart
from .leaf import Rule, leaf
from .onednn import (
    channels_last,
    dnn_conv,
    dnn_conv_onto,
    dnn_pointwise,
    fused_operators_work,
)

HALF_MAX = 65504.0  # largest float16
MOST_WINDOWS = 65535  # of one call on a GPU: the last side of CUDA's grids


def recorded() -> bool:
    """Whether torch compiles, exports or traces: shapes have to follow the input."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return torch.compiler.is_compiling() or tracing


def exporting() -> bool:
    """Whether a graph for other runtimes is made, which few steps make fast."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def _autocast() -> bool:
    """Whether autocast is on for CPUs."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch before 2.4 asks without a device
        return torch.is_autocast_cpu_enabled()


def fast(x: Tensor) -> bool:
    """Whether `x` takes the fused way: float32, on a CPU, not traced, not trained.

    Nor under autocast, which would change the type of some operators alone. A recorder
    of the network answers in its own thread: the plain steps can be followed.
    """
    if recorded():
        return False
    if has_torch_function_unary(x):
        return bool(handle_torch_function(fast, (x,), x))
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not _autocast()
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and fused_operators_work()
    )


def _alone(*_: object, **__: object) -> Rule:
    return Rule()


def _kernel(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int | tuple[int, int],
    groups: int = 1,
    dilation: int = 1,
    **_: object,
) -> Rule:
    """The rule of `conv`."""
    return Rule(halo=dilation * (weight.shape[2] // 2))


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation == "gelu":
        return F.gelu(x)
    return F.relu(x) if activation == "relu" else x


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`, on a GPU with the bias added in the quicker way."""
    if bias is None or recorded() or not comes_apart(x, weight, dilation, groups):
        return F.conv2d(x, weight, bias, 1, padding, dilation, groups)
    return add_bias(F.conv2d(x, weight, None, 1, padding, dilation, groups), bias)


@leaf(_alone, dense=True)
def pointwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str = "none",
    add: Tensor | None = None,
    mul: Tensor | None = None,
) -> Tensor:
    """A 1x1 convolution, then an activation or a sum or a product.

    Args:
        x: (B, C, H, W); channels-last where `fast`.
        weight: (N, C, 1, 1).
        bias: (N).
        activation: `none`, `gelu` or `relu`.
        add: (B, N, H, W) to add.
        mul: (B, N, H, W) to multiply with.
    """
    if fast(x):
        return dnn_pointwise(x, weight, bias, activation, add, mul)
    y = _activate(_convolved(x, weight, bias), activation)
    if add is not None:
        y = y + add
    return y if mul is None else y * mul


@leaf(_kernel, dense=True)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int | tuple[int, int],
    groups: int = 1,
    dilation: int = 1,
    activation: str = "none",
    add: Tensor | None = None,
) -> Tensor:
    """A convolution, then an activation or a sum; zero padded.

    Args:
        x: (B, C, H, W); channels-last where `fast`.
        weight: (N, C / groups, h, w).
        bias: (N).
        padding: Pixels on each side, or (rows, columns).
        groups: Groups of channels.
        dilation: Distance of the taps.
        activation: `none`, `gelu` or `relu`.
        add: (B, N, H', W') to add.
    """
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    if fast(x):
        return dnn_conv(x, weight, bias, pads, dilation, groups, activation, add)
    y = _activate(_convolved(x, weight, bias, pads, dilation, groups), activation)
    return y if add is None else y + add


def conv_onto(
    total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> Tensor:
    """Returns a convolution's result plus `total`, which is spent where `fast`.

    Args:
        total: (B, N, H', W').
        x: (B, C, H, W).
        weight: (N, C, h, w).
        bias: (N).
        padding: Pixels on each side.
    """
    if not fast(x) or total.shape[2:].numel() == 1:
        return conv(x, weight, bias, padding, add=total)
    return dnn_conv_onto(total, x, weight, bias, padding)


@leaf(_alone, dense=True)
def shuffle(cells: Tensor, scale: int) -> Tensor:
    """`F.pixel_shuffle`: (B, C * s * s, H, W) to (B, C, H * s, W * s), contiguous."""
    if scale == 1 or not fast(cells):
        return F.pixel_shuffle(cells, scale)
    # Channels-last cells hold runs of s neighbors: moved as one wide element each.
    b, n, h, w = cells.shape
    s, c = scale, n // scale**2
    lanes, wide = {0: (4, torch.complex128), 2: (2, torch.float64)}.get(
        s % 4, (1, torch.float32)
    )
    runs = channels_last(cells).permute(0, 2, 3, 1).view(wide)
    runs = runs.view(b, h, w, c, s, s // lanes).permute(0, 3, 1, 4, 2, 5)
    return runs.contiguous().view(torch.float32).view(b, c, h * s, w * s)


@leaf(_alone, dense=True)
def product(x: Tensor, y: Tensor) -> Tensor:
    """x * y in at least float32, clamped to float16's range."""
    if x.dtype in HALVES and recorded():  # a graph's readers may round otherwise
        wide = x.float() * y.float()
        return wide.clamp(-HALF_MAX, HALF_MAX).to(x.dtype)
    # torch computes it in float32; what then overflows to infinity is clamped as well.
    return (x * y).clamp_(-HALF_MAX, HALF_MAX)


@leaf(_alone, dense=True)
def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)); `x` is spent where `fast`.

    With v = sigmoid(-x), tanh(softplus(x)) = (1 - v^2) / (1 + v^2): one fast
    transcendental and three cheap passes, where torch's mish takes three slow ones.
    Exported graphs get the form of it that overflows and cancels in no precision.
    """
    if recorded():
        s = torch.sigmoid(x)
        t = s * (2 - s)
        return x * (t / (2 - t))
    if not fast(x):
        return F.mish(x)
    v = x.neg().sigmoid_()
    v.mul_(v).add_(1)  # 1 + v^2; x (1 - v^2) / (1 + v^2) = 2 x / (1 + v^2) - x
    return torch.addcdiv(x.neg(), x, v, value=2, out=x)


def mish_of_negative(x: Tensor) -> Tensor:
    """mish(-x); `x` is spent. Only where `fast`: one pass less than `mish`."""
    v = x.sigmoid()
    v.mul_(v).add_(1)
    return torch.addcdiv(x, x, v, value=-2, out=x)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention inside windows, of any number of them.

    Args:
        q: (windows, heads, N, d).
        k: As `q`.
        v: As `q`.
        mask: (1, heads, N, N), added to the scores.
        scale: Of the scores, 1 / sqrt(d) by default.
    """
    attend = functools.partial(
        F.scaled_dot_product_attention, attn_mask=mask, scale=scale
    )
    if q.is_cpu or recorded() or q.shape[0] <= MOST_WINDOWS:
        return attend(q, k, v)
    parts = zip(*(t.split(MOST_WINDOWS) for t in (q, k, v)), strict=True)
    return torch.cat([attend(*part) for part in parts])


def roll(x: Tensor, shift: int, dims: tuple[int, int]) -> Tensor:
    """`torch.roll` by `shift` along both of `dims`, without arithmetic on sizes.

    An exported `torch.roll` computes the sizes' remainder, which TensorRT lacks.
    """
    for dim in dims:
        size = x.shape[dim]
        cut = -shift if shift < 0 else size - shift
        parts = (x.narrow(dim, cut, size - cut), x.narrow(dim, 0, cut))
        x = torch.cat(parts, dim)
    return x


def widen_norm(norm: nn.LayerNorm | nn.GroupNorm, x: Tensor) -> Tensor:
    """Applies a norm layer; an exported graph squares in float32.

    Torch's own kernels widen by themselves, a graph has to say it.
    """
    if x.dtype not in HALVES or not recorded():
        return norm(x)
    wide, weight, bias = x.float(), norm.weight.float(), norm.bias.float()
    if isinstance(norm, nn.GroupNorm):
        y = F.group_norm(wide, norm.num_groups, weight, bias, norm.eps)
    else:
        y = F.layer_norm(wide, norm.normalized_shape, weight, bias, norm.eps)
    return y.to(x.dtype)


def moments(x: Tensor, eps: float) -> tuple[float, float]:
    """Returns mean and 1 / sqrt(variance + eps) of a whole channels-last image.

    Sums run over each row in float32 and over the rows in float64. Where the mean is
    far larger than the spread the difference of squares would lose digits: it is then
    taken out first.
    """
    rows = x.permute(0, 2, 3, 1).reshape(x.shape[2], -1)
    count = rows.numel()
    mean = float(rows.sum(1, dtype=torch.float32).double().sum()) / count
    norms = torch.linalg.vector_norm(rows, dim=1).double()
    square = float(norms.square().sum()) / count
    variance = square - mean * mean
    if variance < 0.05 * square:
        norms = torch.linalg.vector_norm(rows - mean, dim=1).double()
        variance = float(norms.square().sum()) / count
    return mean, (variance + eps) ** -0.5


BAND = 600_000
"""Values of the widest tensor of a band: big enough to hide the cost of a call."""


def in_bands(x: Tensor, row: int, step: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Runs a step band by band of rows, so that what it makes stays in the cache.

    Args:
        x: (1, C, H, W), channels-last.
        row: Values of the step's widest tensor in a row of the image.
        step: From a band, one row more above and below where there is one, and the
            rows that are its own, to these rows of the result, (1, C, rows, W).
    """
    height = x.shape[2]
    count = max(1, min(height // 4, round(height * row / BAND)))
    if count == 1:
        return step(x, slice(None))
    out = torch.empty_like(x)
    for index in range(count):
        top, bottom = height * index // count, height * (index + 1) // count
        first, own = max(0, top - 1), bottom - top
        band = x[:, :, first : bottom + 1]
        out[:, :, top:bottom] = step(band, slice(top - first, top - first + own))
    return out
