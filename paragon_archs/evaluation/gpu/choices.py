"""What the pack decides for GPUs without one at hand, measured on this device."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...archs.paragonsr_arch import ImageNorm
from ...deploy.bias import add_bias
from ...inference.layout import LAYOUTS
from .bench import Bench, milliseconds
from .report import Row, Section, attempt

_WIDTHS = (24, 64)  # channels of the smallest and of a middle ParagonSR
# Windows, heads, and the values of a head, as the networks ask for them.
_WINDOWS = {"fusionsr": (8, 6, 32), "paragonsr2_photo": (16, 4, 16)}
_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


def norms(bench: Bench) -> Section:
    """Returns the table of group norms: torch's kernel, and sums over the image."""
    lines: dict[str, Callable[[], Row]] = {}
    for width in _WIDTHS:
        for dtype in (torch.float16, torch.float32):
            name = f"{width} channels, {str(dtype)[6:]}"
            lines[name] = functools.partial(_norm, bench, width, dtype, False)
        lines[f"{width} channels, float32, and gradients"] = functools.partial(
            _norm, bench, width, torch.float32, True
        )
    height, width = _map_size(bench, False)
    side, _ = _map_size(bench, True)
    return Section(
        "Group norm",
        f"Milliseconds of a map of {width}x{height} (gradients: {side}x{side}, batch "
        "8): torch's kernel and this pack's sums, in both layouts.",
        (
            "map",
            *(f"{kind} {layout}" for kind in ("torch", "sums") for layout in LAYOUTS),
        ),
        lines,
    )


def _map_size(bench: Bench, training: bool) -> tuple[int, int]:
    return ((16, 16) if bench.small else (128, 128)) if training else bench.size


def _norm(bench: Bench, width: int, dtype: torch.dtype, training: bool) -> Row:
    norm = ImageNorm(1, width).to(bench.device, dtype)
    shape = (8 if training else 1, width, *_map_size(bench, training))
    cells = []
    for forward in (functools.partial(nn.GroupNorm.forward, norm), norm.on_gpu):
        for layout in LAYOUTS.values():
            x = torch.rand(shape, device=bench.device, dtype=dtype)
            x = x.contiguous(memory_format=layout).requires_grad_(training)
            run = functools.partial(_pass, forward, x, training)
            cells.append(milliseconds(bench.seconds(run)))
    return Row(cells)


def _pass(forward: Callable[[Tensor], Tensor], x: Tensor, training: bool) -> None:
    with torch.set_grad_enabled(training):
        y = forward(x)
        if training:
            y.backward(y.detach())


def biases(bench: Bench) -> Section:
    """Returns the table of biases: torch's sum, and a list of channels."""
    lines = {
        f"{width} channels, {dtype}": functools.partial(
            _bias, bench, width, getattr(torch, dtype)
        )
        for width in (*_WIDTHS, 128)
        for dtype in ("float16", "float32")
    }
    height, width = _map_size(bench, False)
    return Section(
        "Bias",
        f"Milliseconds of adding one value per channel to a map of {width}x{height}: "
        "as torch does after a convolution, and channel by channel.",
        ("map", "torch", "by channel"),
        lines,
    )


def _bias(bench: Bench, width: int, dtype: torch.dtype) -> Row:
    y = torch.zeros(1, width, *_map_size(bench, False), device=bench.device).to(dtype)
    bias = torch.zeros(width).to(y)
    ways = (
        functools.partial(y.add_, bias.view(1, -1, 1, 1)),
        functools.partial(add_bias, y, bias),
    )
    with torch.inference_mode():
        return Row([milliseconds(bench.seconds(way)) for way in ways])


def attentions(bench: Bench) -> Section:
    """Returns the table of attention kernels inside windows."""
    lines = {
        f"{name}, {dtype}": functools.partial(
            _attention, bench, *shape, getattr(torch, dtype), name == "fusionsr"
        )
        for name, shape in _WINDOWS.items()
        for dtype in ("float16", "float32")
    }
    return Section(
        "Attention in windows",
        f"Milliseconds for all windows of {bench.frame}: what torch chooses by itself, "
        "and each of its kernels.",
        ("windows", "torch's choice", *_KERNELS),
        lines,
    )


def _attention(
    bench: Bench, side: int, heads: int, size: int, dtype: torch.dtype, biased: bool
) -> Row:
    height, width = bench.size
    count = -(-height // side) * -(-width // side)
    shape = (count, heads, side**2, size)
    q, k, v = (torch.rand(shape, device=bench.device, dtype=dtype) for _ in range(3))
    bias = None
    if biased:
        bias = torch.rand(1, heads, side**2, side**2).to(q)
    run = functools.partial(F.scaled_dot_product_attention, q, k, v, attn_mask=bias)

    def timed(kernel: SDPBackend) -> Row:
        with sdpa_kernel(kernel):
            return Row([milliseconds(bench.seconds(run))])

    with torch.inference_mode():
        cells = [milliseconds(bench.seconds(run))]
        for kernel in _KERNELS.values():
            row = attempt(functools.partial(timed, kernel))
            cells.append(row.cells[0] if row.held else "no")  # not for such shapes
    return Row(cells)
