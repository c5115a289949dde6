"""Adding a bias to a large map on a GPU.

cuDNN's convolutions leave the bias to torch, whose kernel for one value per channel
takes three times what a card's memory would need: on an H200 more than the convolution
itself. A list of channels, each with a number to add, takes no longer than the memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..utils.halves import HALVES

LARGE = 2**25  # values of a map from which on the host has the time for a list
_WORTH = 0.9  # share of torch's time from which on the list is taken
_numbers = WeakTensorKeyDictionary()  # biases, and what they were when read


def comes_apart(x: Tensor, weight: Tensor, dilation: int, groups: int) -> bool:
    """Whether the bias of a convolution is best left out of it and added here.

    Args:
        x: The convolution's input.
        weight: Its kernel.
        dilation: Distance of its taps.
        groups: Its groups of channels.
    """
    values = len(x) * len(weight) * x.shape[2] * x.shape[3]
    if values < LARGE or type(x) is not Tensor or torch.is_grad_enabled():
        return False
    # torch's own kernels of depthwise convolutions bring the bias along.
    square = weight.shape[2] == weight.shape[3]
    own = groups > 1 and (dilation > 1 or not square or x.dtype not in HALVES)
    return x.is_cuda and not own and _is_faster(x.device, x.dtype)


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """Adds a bias (C) to (B, C, H, W) in place."""
    if not y.is_contiguous():
        return y.add_(bias.view(1, -1, 1, 1))  # as torch itself would
    channels = list(y.flatten(0, 1).unbind())
    torch._foreach_add_(channels, _read(bias) * len(y))  # type: ignore[attr-defined]
    return y


def _read(bias: Tensor) -> list[float]:
    """Returns the values of a bias; only the first time the host waits for them."""
    version = 0 if bias.is_inference() else bias._version
    now = (bias.data_ptr(), version)
    known = _numbers.get(bias)
    if known is None or known[0] != now:
        known = _numbers[bias] = (now, bias.tolist())
    return known[1]


@functools.cache
def _is_faster(device: torch.device, dtype: torch.dtype) -> bool:
    """Measures both ways once on a card, on the smallest map that is large."""
    with torch.cuda.device(device):
        y = torch.zeros(1, 64, 512, LARGE >> 15, device=device, dtype=dtype)
        bias = torch.zeros(64, device=device, dtype=dtype)
        usual = _seconds(lambda: y.add_(bias.view(1, -1, 1, 1)))
        return _seconds(lambda: add_bias(y, bias)) < _WORTH * usual


def _seconds(run: Callable[[], object]) -> float:
    """Returns what five runs take on the card, after two that do not count."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for count in (2, 5):
        start.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
    return start.elapsed_time(end)
