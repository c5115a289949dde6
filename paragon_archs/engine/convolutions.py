"""Convolutions whose gradients are right, and fast where a CPU's own are slow.

oneDNN gets the weight gradient of a dilated depthwise convolution wrong in bfloat16
with channels last (torch 2.7 to 2.14), without an error or a NaN. So each kind of
convolution that a network holds is tried once at the start of a run.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..archs.paragonsr2_arch import StreamBlock
from ..utils.dtypes import dtype_name, dtype_of
from .precision import Precision
from .stream_gradients import stream_block

logger = logging.getLogger("basicsr")

KINDS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# What a kind is tried on: oneDNN's wrong kernel takes batches of some size only.
BATCH = {True: 8, False: 2}  # of depthwise convolutions, and of others
SMALLEST, LARGEST = 16, 64  # sides in pixels
WORK = 1e8  # multiplications that decide which of these
# Largest error, relative to the norm of the right values.
TOLERANCES = {torch.float32: 0.01, torch.float16: 0.03, torch.bfloat16: 0.06}
LAYOUTS = {
    torch.channels_last: "channels last",
    torch.contiguous_format: "contiguous",
}


@dataclass(frozen=True)
class Way:
    """How a convolution computes: its data type and its memory layout."""

    dtype: torch.dtype
    layout: torch.memory_format

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)}, {LAYOUTS[self.layout]}"


class Kind(NamedTuple):
    """What two convolutions share whose gradients are computed alike."""

    convolution: Callable[..., nn.Module]
    inner: int
    outer: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str


def make_trainable(
    network: nn.Module,
    precision: Precision,
    layout: torch.memory_format,
    device: torch.device,
) -> None:
    """Lets every convolution compute in a way whose gradients are right, in place.

    Parameters, their names and the results stay. Blocks of the stream tier get their
    fast gradients on a CPU.

    Args:
        network: On its device, not wrapped.
        precision: The run's.
        layout: The run's.
        device: Where the network computes.
    """
    computed_elsewhere: set[nn.Module] = set()
    if device.type == "cpu":
        for block in network.modules():
            if isinstance(block, StreamBlock):
                block.forward = functools.partial(stream_block, block)
                computed_elsewhere |= {block.dw3}
    wanted = Way(dtype_of(precision.name), layout)
    found: dict[Kind, Way] = {}
    for module in network.modules():
        if not isinstance(module, KINDS) or module in computed_elsewhere:
            continue
        kind = kind_of(module)
        if kind not in found:
            found[kind] = right_way(kind, wanted, device)
            if found[kind] != wanted:
                logger.warning(
                    "%s computes in %s: its gradients in %s are wrong on this machine.",
                    describe(kind),
                    found[kind],
                    wanted,
                )
        if found[kind] != wanted:
            _compute_in(module, found[kind])


def kind_of(module: nn.modules.conv._ConvNd) -> Kind:
    """Returns the kind of a convolution."""
    classes = type(module).__mro__
    return Kind(
        next(kind for kind in KINDS if kind in classes),
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
        module.bias is not None,
        module.padding_mode,
    )


def describe(kind: Kind) -> str:
    """Returns a kind in words."""
    size = "x".join(map(str, kind.kernel))
    more = "".join(
        f", {name} {value[0]}"
        for name, value in (("stride", kind.stride), ("dilation", kind.dilation))
        if value[0] != 1
    )
    grouped = f", {kind.groups} groups" if kind.groups > 1 else ""
    called = kind.convolution.__name__
    return f"{called} {kind.inner} to {kind.outer}, {size}{more}{grouped}"


def ways(wanted: Way) -> Iterator[Way]:
    """Yields the ways to try, the wanted one first."""
    tried = []
    for dtype in (wanted.dtype, torch.float32):
        for layout in (wanted.layout, torch.contiguous_format):
            way = Way(dtype, layout)
            if way not in tried:
                tried.append(way)
                yield way


def right_way(kind: Kind, wanted: Way, device: torch.device) -> Way:
    """Returns the first way in which a kind of convolution is right.

    The right values are those of float32 in the usual layout, the last way.
    """
    way = wanted
    for way in ways(wanted):
        if error(kind, wanted, way, device) < TOLERANCES[way.dtype]:
            break
    return way


def error(kind: Kind, wanted: Way, way: Way, device: torch.device) -> float:
    """Returns the largest relative error of a kind's result and gradients.

    Args:
        kind: What `kind_of` returned.
        wanted: The way of the network around it.
        way: How the convolution itself computes.
        device: Where.
    """
    inner, kernel, groups = kind.inner, kind.kernel, kind.groups
    batch = BATCH[groups == inner > 1]
    work = batch * inner * kind.outer // groups * math.prod(kernel)
    side = int((WORK / work) ** (1 / len(kernel)))
    least = max(d * (k - 1) + 2 for d, k in zip(kind.dilation, kernel, strict=True))
    side = max(least, SMALLEST, min(LARGEST, side))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the GPUs' generators stay
        tried = _build(kind).to(device)
        x = torch.randn(batch, inner, *[side] * len(kernel)).to(device)
        grad = torch.randn(tried(x).shape).to(device)
    exact = copy.deepcopy(tried)
    right = _computed(exact, x, grad, None)
    layout = wanted.layout if len(kernel) == 2 else torch.contiguous_format
    tried = tried.to(memory_format=layout)
    if way != wanted:
        _compute_in(tried, way)
    x, grad = (v.contiguous(memory_format=layout) for v in (x, grad))
    got = _computed(tried, x, grad, wanted.dtype)
    errors = [
        ((a.float() - b).norm() / b.norm().clamp(min=1e-12)).item()
        for a, b in zip(got, right, strict=True)
    ]
    return max(math.inf if math.isnan(e) else e for e in errors)


def _build(kind: Kind) -> nn.Module:
    convolution, *sizes, dilation, groups, bias, mode = kind
    return convolution(
        *sizes, dilation=dilation, groups=groups, bias=bias, padding_mode=mode
    )


def _computed(
    module: nn.Module, x: Tensor, grad: Tensor, dtype: torch.dtype | None
) -> list[Tensor]:
    """Returns the result, and the gradients of the input and of each parameter."""
    x = x.detach().requires_grad_()
    half = dtype in (torch.float16, torch.bfloat16)
    with torch.autocast(x.device.type, dtype if half else None, enabled=half):
        y = module(x)
    parameters = list(module.parameters())
    return [y, *torch.autograd.grad(y, [x, *parameters], grad.to(y.dtype))]


def _compute_in(module: nn.Module, way: Way) -> None:
    if way.layout is torch.contiguous_format:
        module.to(memory_format=way.layout)
    module.forward = functools.partial(_convolve, module, way)


def _convolve(module: nn.Module, way: Way, x: Tensor) -> Tensor:
    last = x.ndim == 4 and not x.is_contiguous()
    half = way.dtype is not torch.float32
    with torch.autocast(x.device.type, way.dtype if half else None, enabled=half):
        x = x if half else x.float()
        y = type(module).forward(module, x.contiguous(memory_format=way.layout))
    return y.contiguous(memory_format=torch.channels_last) if last else y
