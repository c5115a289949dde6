"""Base paths of ParagonSR2 as cells of a `MergedHead`: filters at low resolution.

A cell of a scale of 2 or more lies one high-resolution pixel up and to the left of its
low-resolution pixel, as the head's do; there is one more row and column of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..archs.paragonsr2_arch import MagicKernelSharp2021, PublishedBase
from .base import Folded, exact
from .onednn import channels_last
from .ops import conv, fast


class PublishedCells(Folded):
    """The published base path.

    Zeros around the input stay zeros under nearest upsampling, so the blur's padding
    needs no correction; that of `sharp` is kept by leaving `sharp` a step of its own.
    """

    def __init__(self, base: PublishedBase, like: Tensor) -> None:
        super().__init__()
        s = base.scale
        channels = base.blur.h.weight.shape[0]
        taps = (5 if s == 1 else 4, 0 if s == 1 else 1)  # of the head, and its offset
        down = _polyphase(exact(base.blur.v.weight).flatten(1), s, *taps)
        across = _polyphase(exact(base.blur.h.weight).flatten(1), s, *taps)
        kernel = torch.einsum("ciy,cjx->cijyx", down, across).flatten(1, 2)
        dense = torch.zeros(channels, s * s, channels, taps[0], taps[0])
        dense = dense.double()
        for c in range(channels):
            dense[c, :, c] = kernel[c]
        self.keep("blur", dense.flatten(0, 1), like)
        self.sharpens = base.alpha > 0
        if self.sharpens:
            v, h = exact(base.sharp.v.weight), exact(base.sharp.h.weight)
            sharp = base.alpha * (v * h)  # (C, 1, taps, taps)
            middle = sharp.shape[-1] // 2
            sharp[:, :, middle, middle] += 1 - base.alpha
            self.keep("sharp", sharp, like)

    def forward(self, x: Tensor) -> Tensor:
        """Computes (B, C * s * s, H', W') from `x` (B, C, H, W)."""
        if self.sharpens:
            x = conv(x, self.sharp, None, self.sharp.shape[-1] // 2, x.shape[1])
        return conv(x, self.blur, None, 2)


def _polyphase(taps: Tensor, s: int, n: int, offset: int) -> Tensor:
    """Returns what a filter (C, taps) after nearest upsampling reads, along one side.

    (C, s, n): for each sub-pixel of a cell, weights of the low-resolution pixels from
    two before the cell's own on.
    """
    c, k = taps.shape
    found = torch.zeros(c, s, n, dtype=torch.float64)
    for i in range(s):
        for tap in range(k):
            found[:, i, (i - offset + tap - k // 2) // s + 2] += taps[:, tap]
    return found


class MagicCells(Folded):
    """Magic Kernel Sharp 2021, borders replicated.

    The vertical filter is one small dense convolution that gives each phase of rows
    once per phase of columns, so that the horizontal one is depthwise on C * s * s
    channels: filters on three channels leave most of a processor's lanes idle.
    """

    def __init__(self, base: MagicKernelSharp2021, like: Tensor) -> None:
        super().__init__()
        s = base.scale
        offset = 0 if s == 1 else 1
        c, taps = base.v.in_channels, base.v.kernel_size[0]
        self.halo = taps // 2 + offset
        v = exact(base.v.weight).view(c, s, taps)
        h = exact(base.h.weight).view(c, s, s, taps)
        down = torch.zeros(c, s, s, c, taps + offset, dtype=torch.float64)
        across = torch.zeros(c, s, s, taps + offset, dtype=torch.float64)
        # Sub-pixels of a cell: phase, and its first tap; those of the pixel before the
        # cell's own read one pixel earlier.
        places = [((i - offset) % s, offset + (i - offset) // s) for i in range(s)]
        for i, (row, at) in enumerate(places):
            for channel in range(c):
                down[channel, i, :, channel, at : at + taps] = v[channel, row]
            for j, (column, start) in enumerate(places):
                across[:, i, j, start : start + taps] = h[:, row, column]
        self.keep("down", down.view(c * s * s, c, -1, 1), like)
        self.keep("across", across.view(c * s * s, 1, 1, -1), like)

    def forward(self, x: Tensor) -> Tensor:
        """Computes (B, C * s * s, H', W') from `x` (B, C, H, W)."""
        x = F.pad(x, (self.halo,) * 4, mode="replicate")
        if fast(x):
            x = channels_last(x)
        x = conv(x, self.down, None, 0)
        return conv(x, self.across, None, 0, x.shape[1])
