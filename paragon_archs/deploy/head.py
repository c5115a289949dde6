"""The merged head: conv_out(PixelShuffle(conv_up(x))) as one small convolution.

Nothing non-linear stands between the two convolutions, so their composition is one
linear map at low resolution. Seen from one low-resolution pixel its kernel is 5x5. Cut
into cells that lie one high-resolution pixel up and to the left, every cell of a scale
of 2 or more reads 4x4 pixels only: 16 taps instead of 25, for one more row and column
of cells, which are cropped.

`conv_out` pads the high-resolution image with zeros, while the merged kernel sees
`conv_up` evaluated outside. That touches the outermost high-resolution pixels only,
depends on the outermost low-resolution rows and columns alone, and is
subtracted exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Folded, exact
from .leaf import Rule, leaf
from .ops import conv, conv_onto, recorded, shuffle

ROWS = 72  # of cells that are shuffled at a time, to spare a second whole image


def merged_kernel(
    up_weight: Tensor,
    up_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    scale: int,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Returns the convolution that equals conv_out(PixelShuffle(conv_up(x))).

    Their response to one impulse per channel is the merged kernel, and their response
    to zeros its bias. Gradients reach all four tensors.

    Args:
        up_weight: (M * scale^2, F, 3, 3).
        up_bias: (M * scale^2,).
        out_weight: (C, M, 3, 3).
        out_bias: (C,).
        scale: Upscaling factor.
        offset: High-resolution pixels that a cell begins above and left of its
            low-resolution pixel, 0 or 1.

    Returns:
        weight (C * scale^2, F, N, N) and bias (C * scale^2,) of a convolution with 2
        pixels of padding, before a pixel shuffle. N is 5, or with an offset 4.
    """
    f = up_weight.shape[1]
    impulses = up_weight.new_zeros(f + 1, f, 5, 5)
    impulses[range(f), range(f), 2, 2] = 1
    shuffled = F.pixel_shuffle(F.conv2d(impulses, up_weight, up_bias, padding=1), scale)
    response = F.conv2d(shuffled, out_weight, out_bias, padding=1)
    if offset:
        response = F.pad(response, (offset, scale - offset) * 2)
    cells = F.pixel_unshuffle(response, scale)  # (F + 1, C * scale^2, 5 or 6, 5 or 6)
    taps = slice(1, 5) if offset else slice(None)
    kernel = (cells[:-1] - cells[-1:])[:, :, taps, taps].flip(-1, -2)
    return kernel.transpose(0, 1).contiguous(), cells[-1, :, 2, 2]


class MergedHead(Folded):
    """`gain * conv_out(PixelShuffle(conv_up(x)))`, border included.

    Args:
        conv_up: 3x3, zero padded, with bias, F -> M * scale^2.
        conv_out: 3x3, zero padded, with bias, M -> C.
        scale: Upscaling factor.
        gain: Factor on the result, folded in.
    """

    def __init__(
        self,
        conv_up: nn.Conv2d,
        conv_out: nn.Conv2d,
        scale: int,
        gain: float | Tensor = 1.0,
    ) -> None:
        super().__init__()
        self.scale = s = scale
        self.offset = 0 if s == 1 else 1
        like = conv_up.weight
        up = exact(conv_up.weight)
        f = up.shape[1]
        up_bias = exact(conv_up.bias)
        out = exact(conv_out.weight) * gain
        out_bias = exact(conv_out.bias) * gain
        self.channels = c = out.shape[0]

        n = 5 if s == 1 else 4
        weight, bias = merged_kernel(up, up_bias, out, out_bias, s, self.offset)
        self.keep("weight", weight, like)
        self.keep("bias", bias, like)
        up = up.view(-1, s, s, f, 3, 3)  # (M, row, column, F, 3, 3)
        up_bias = up_bias.view(-1, s, s)

        # What conv_out would read outside: first index 0 above or left, 1 below or
        # right; the sub-pixel that lies there, and the one row or column of conv_up's
        # kernel that still touches the image.
        sides = ((0, s - 1, 2), (2, 0, 0))
        rows = torch.zeros(2, c, s, f, n, dtype=torch.float64)
        columns = torch.zeros_like(rows)
        row_bias = torch.zeros(2, c, s, dtype=torch.float64)
        column_bias = torch.zeros_like(row_bias)
        corners = torch.zeros(2, 2, c, f, dtype=torch.float64)
        corner_bias = torch.zeros(2, 2, c, dtype=torch.float64)
        for side, (d, sub, k) in enumerate(sides):
            for i, di, at, along in self._taps():
                rows[side, :, i, :, at : at + 3] += torch.einsum(
                    "cm,mfw->cfw", out[:, :, d, di], up[:, sub, along, :, k]
                )
                row_bias[side, :, i] += out[:, :, d, di] @ up_bias[:, sub, along]
                columns[side, :, i, :, at : at + 3] += torch.einsum(
                    "cm,mfh->cfh", out[:, :, di, d], up[:, along, sub, :, :, k]
                )
                column_bias[side, :, i] += out[:, :, di, d] @ up_bias[:, along, sub]
            for other, (e, sub_e, k_e) in enumerate(sides):
                corners[side, other] = out[:, :, d, e] @ up[:, sub, sub_e, :, k, k_e]
                corner_bias[side, other] = out[:, :, d, e] @ up_bias[:, sub, sub_e]
        self.keep("rows", rows.view(2 * c * s, f, n), like)
        self.keep("row_bias", row_bias.flatten(), like)
        self.keep("columns", columns.view(2 * c * s, f, n), like)
        self.keep("column_bias", column_bias.flatten(), like)
        self.keep("corners", corners.view(4 * c, f), like)
        self.keep("corner_bias", corner_bias.flatten(), like)

    def _taps(self) -> list[tuple[int, int, int, int]]:
        """Returns, along one side, (sub-pixel of a cell, tap of conv_out, first of the
        three taps in the merged kernel, sub-pixel of conv_up that is read)."""
        s = self.scale
        return [
            (i, d, (i - self.offset + d - 1) // s + 1, (i - self.offset + d - 1) % s)
            for i in range(s)
            for d in range(3)
        ]

    @leaf(lambda self, x, base=None: Rule(halo=3))
    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """Computes (B, C, H * s, W * s) from `x` (B, F, H, W).

        Args:
            x: Features.
            base: Cells to add before they are shuffled, (B, C * s * s, H', W'); spent.
        """
        _, _, h, w = x.shape
        if base is None:
            cells = conv(x, self.weight, self.bias, 2)
        else:
            cells = conv_onto(base, x, self.weight, self.bias, 2)
        s, o = self.scale, self.offset
        if recorded():
            out = shuffle(cells, s)
            rows, columns, corners = self._border(x)
            if s > 1:
                return _framed(out, rows, columns, corners, s)
            return out - _map(rows, columns, corners, h, w)
        if not cells.is_cpu:
            # One step, and a view of it: there is memory, but each call costs.
            out = shuffle(cells, s)[:, :, o : o + s * h, o : o + s * w]
            del cells
            return self._corrected(out, x)
        out = cells.new_empty(x.shape[0], self.channels, s * h, s * w)
        for top in range(0, cells.shape[2], ROWS):
            part = shuffle(cells[:, :, top : top + ROWS], s)
            start = s * top - o  # row of the result where the part's first lies
            cut = part[:, :, max(0, -start) : s * h - start, o : o + s * w]
            out[:, :, max(0, start) : max(0, start) + cut.shape[2]] = cut
        del cells
        return self._corrected(out, x)

    def _corrected(self, out: Tensor, x: Tensor) -> Tensor:
        """Subtracts the cells' excess from the outermost pixels, in place."""
        rows, columns, corners = self._border(x)
        height, width = out.shape[2:]
        if min(height, width) == 1:  # a line that is both ends
            return out.sub_(_map(rows, columns, corners, height, width))
        # Both ends of a side are one view of it.
        down, across = height - 1, width - 1
        out[:, :, ::down].sub_(rows.transpose(1, 2))
        out[:, :, :, ::across].sub_(columns.permute(0, 2, 3, 1))
        # Each corner was taken off with its row and once more with its column.
        out[:, :, ::down, ::across].add_(corners.permute(0, 3, 1, 2))
        return out

    def _border(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what to subtract from the outermost pixels.

        Rows (B, 2, C, W * s), columns (B, 2, C, H * s), and what is in both
        (B, 2, 2, C).
        """
        b, f, h, w = x.shape
        c, s, o = self.channels, self.scale, self.offset

        def line(ends: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
            # (B, 2, F, L) -> (B, 2 * C * s, cells) -> (B, 2, C, cells * s)
            y = F.conv1d(ends.flatten(1, 2), weight, bias, padding=2, groups=2)
            y = y.view(b, 2, c, s, -1).transpose(3, 4).reshape(b, 2, c, -1)
            return y[..., o : o + s * length]

        ends = torch.stack((x[:, :, 0], x[:, :, -1]), 1)
        rows = line(ends, self.rows, self.row_bias, w)
        sides = torch.stack((x[:, :, :, 0], x[:, :, :, -1]), 1)
        columns = line(sides, self.columns, self.column_bias, h)
        tips = torch.stack((ends[..., 0], ends[..., -1]), 2)  # (B, 2, 2, F)
        corners = tips.view(b, 4, 1, f) @ self.corners.view(4, c, f).transpose(1, 2)
        corners = corners + self.corner_bias.view(4, 1, c)
        return rows, columns, corners.view(b, 2, 2, c)


def _framed(
    out: Tensor, rows: Tensor, columns: Tensor, corners: Tensor, s: int
) -> Tensor:
    """Puts the corrected border around the inner pixels, without writing in place.

    `out` is what the cells hold: one pixel more above and left, s - 1 more below and
    right. Every cut is counted from an end, so that a reader of the graph can infer the
    output's size from the input's.
    """
    left = out[:, :, 2:-s, 1:2] - columns[:, 0, :, 1:-1, None]
    right = out[:, :, 2:-s, -s : 1 - s] - columns[:, 1, :, 1:-1, None]
    inner = torch.cat((left, out[:, :, 2:-s, 2:-s], right), 3)
    lines = []
    for side, at in ((0, slice(1, 2)), (1, slice(-s, 1 - s))):
        line = out[:, :, at, 1 : 1 - s] - rows[:, side, :, None]
        tips = corners[:, side, :, :, None, None]  # (B, 2, C, 1, 1)
        ends = columns[:, :, :, -side, None, None] - tips
        lines.append(
            torch.cat(
                (
                    line[..., :1] - ends[:, 0],
                    line[..., 1:-1],
                    line[..., -1:] - ends[:, 1],
                ),
                3,
            )
        )
    return torch.cat((lines[0], inner, lines[1]), 2)


def _map(rows: Tensor, columns: Tensor, corners: Tensor, h: int, w: int) -> Tensor:
    """Returns the border's correction as an image; for scale 1, where a side may be one
    pixel and then belongs to both ends."""
    total = F.pad(rows[:, 0, :, None], (0, 0, 0, h - 1))
    total = total + F.pad(rows[:, 1, :, None], (0, 0, h - 1, 0))
    total = total + F.pad(columns[:, 0, :, :, None], (0, w - 1, 0, 0))
    total = total + F.pad(columns[:, 1, :, :, None], (w - 1, 0, 0, 0))
    for down in (0, 1):
        for across in (0, 1):
            tip = corners[:, down, across, :, None, None]
            pads = [across * (w - 1), (1 - across) * (w - 1)]
            pads += [down * (h - 1), (1 - down) * (h - 1)]
            total = total - F.pad(tip, pads)
    return total
