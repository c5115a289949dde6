"""oneDNN's fused operators, as torch's compiler calls them: one thread, float32, CPU.

They are not part of torch's public interface; `fused_operators_work` tries them once.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.cache
def fused_operators_work() -> bool:
    """Whether this torch has its compiler's oneDNN operators, and they are right.

    They are not part of torch's public interface: a build that lacks or changes them
    gets the plain operators.
    """
    try:
        line = functools.partial(torch.linspace, dtype=torch.float32, device="cpu")
        x = line(-2, 2, 64).view(1, 4, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        weight, bias = line(-1, 1, 24).view(6, 4, 1, 1), line(1, 1, 6)
        kernel = line(-1, 1, 36).view(4, 1, 3, 3)
        other = dnn_pointwise(x, weight, bias, "none", None, None)
        pairs = (
            (other, F.conv2d(x, weight, bias)),
            (
                dnn_pointwise(x, weight, bias, "none", other, None),
                other + other,
            ),
            (
                dnn_pointwise(x, weight, bias, "none", None, other),
                other * other,
            ),
            (
                dnn_conv(x, kernel, None, (1, 1), 1, 4, "gelu"),
                F.gelu(F.conv2d(x, kernel, padding=1, groups=4)),
            ),
            (
                dnn_conv_onto(other.clone(), x, weight, bias, 0),
                other + other,
            ),
        )
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)


def channels_last(x: Tensor) -> Tensor:
    """Returns `x` (B, C, H, W) with dense channels-last strides, whatever its size.

    A tensor of one row, column or channel counts as both layouts; its strides are then
    set by hand, because the views below need the real ones.
    """
    b, c, h, w = x.shape
    if x.stride() == (h * w * c, 1, w * c, c):
        return x
    rows = torch.empty((b, h, w, c), dtype=x.dtype, device=x.device)
    return rows.permute(0, 3, 1, 2).copy_(x)


def rows_of(x: Tensor) -> Tensor:
    """Returns a channels-last (B, C, H, W) as its pixels (B * H * W, C), no copy."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def image_of(rows: Tensor, like: Tensor) -> Tensor:
    """Returns pixels (B * H * W, C) as channels-last (B, C, H, W), as `like` is."""
    b, _, h, w = like.shape
    return rows.view(b, h, w, -1).permute(0, 3, 1, 2)


def linear(
    rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none"
) -> Tensor:
    """`rows` (M, C) times `weight` (N, C) transposed, in oneDNN; only where `fast`."""
    algorithm = "none" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(
        rows, weight, bias, activation, [], algorithm
    )


def linear_add(
    rows: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """`linear(rows, weight, bias) + other`; only where `fast`."""
    return _combined(rows, other, weight, bias, "add")


def _combined(
    rows: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, step: str
) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.binary(rows, other, weight, bias, step)


def dnn_pointwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    add: Tensor | None,
    mul: Tensor | None,
) -> Tensor:
    other = add if add is not None else mul
    rows, matrix = rows_of(x), weight.flatten(1)
    if other is None:
        y = linear(rows, matrix, bias, activation)
    else:
        step = "add" if mul is None else "mul"
        y = _combined(rows, rows_of(other), matrix, bias, step)
    return image_of(y, x)


def dnn_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int],
    dilation: int,
    groups: int,
    activation: str,
    add: Tensor | None = None,
) -> Tensor:
    place = (list(padding), [1, 1], [dilation, dilation], groups)
    algorithm = "none" if activation == "gelu" else ""
    y = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, *place, activation, [], algorithm
    )
    # A sum of its own takes less than oneDNN's inside the convolution.
    return channels_last(y) if add is None else channels_last(y).add_(add)


def dnn_conv_onto(
    total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> Tensor:
    place = ([padding] * 2, [1, 1], [1, 1], 1)
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, weight, bias, *place, "add", 1.0, None, [], None
    )
