"""The stream block as the training loop computes it: the same values, fewer passes.

A CPU spends most of a step of `paragonsr2_stream` outside the arithmetic: its kernels
have no fast gradient for a dilated depthwise convolution, and the two halves of the
gate are strided views, which every operation on them pays for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..archs.paragonsr2_arch import StreamBlock


def _phases(x: Tensor, dilation: int) -> Tensor:
    """Returns (B, C, H, W) as (B d^2, C, H / d, W / d), one image for each phase."""
    h, w = x.shape[-2:]
    x = F.pad(x, (0, -w % dilation, 0, -h % dilation))
    x = x.unflatten(-1, (-1, dilation)).unflatten(-3, (-1, dilation))
    x = x.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
    return x.contiguous(memory_format=torch.channels_last)


class DilatedDepthwise(torch.autograd.Function):
    """A padded, dilated 3 x 3 depthwise convolution with gradients by dense ones.

    The input's gradient is the same convolution with the kernel turned; the weight's
    is that of an ordinary convolution over the phases, d^2 images of every d-th pixel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, d: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = d
        return F.conv2d(x, weight, bias, 1, d, d, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d, channels = ctx.dilation, len(weight)
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        back = F.conv2d(grad, weight.flip(-1, -2), None, 1, d, d, channels)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            _phases(grad, d),
            _phases(x, d),
            weight,
            [channels],
            [1, 1],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            channels,
            [False, True, True],
        )
        return back, of_weight, of_bias, None


def stream_block(block: StreamBlock, x: Tensor) -> Tensor:
    """Returns what the block returns, (B, C, H, W), with gradients.

    Without the clamp at float16's range: training runs in float32 or bfloat16, where
    nothing reaches it.
    """
    kind = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    dw3, proj, gate = block.dw3, block.proj, block.gate
    assert dw3.bias is not None and proj.bias is not None and gate.bias is not None
    far = DilatedDepthwise.apply(x.to(kind), dw3.weight.to(kind), dw3.bias.to(kind), 3)
    y = block.fuse(torch.cat((block.dw1(x), far), 1))
    a, b = (
        F.conv2d(F.conv2d(y, *inner), *outer, padding=1, groups=len(outer[0]))
        for inner, outer in zip(
            zip(proj.weight.chunk(2), proj.bias.chunk(2), strict=True),
            zip(gate.weight.chunk(2), gate.bias.chunk(2), strict=True),
            strict=True,
        )
    )
    return block.scale(x, block.out(a * b))
