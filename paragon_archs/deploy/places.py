"""Windows as tables of places: padding, shift and cut are one move of whole pixels."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.lru_cache(maxsize=4)
def places_of(h: int, w: int, side: int, shift: int) -> tuple[Tensor, Tensor]:
    """Returns where the pixels of an image and of its (shifted) windows come from.

    The first: of each place in the windows its pixel, h * w for padding; the second: of
    each pixel its place.
    """
    high, wide = -(-h // side) * side, -(-w // side) * side
    pixels = torch.full((high, wide), h * w, dtype=torch.int32)
    pixels[:h, :w] = torch.arange(h * w, dtype=torch.int32).view(h, w)
    pixels = pixels.roll((-shift, -shift), (0, 1))
    there = pixels.view(high // side, side, wide // side, side).transpose(1, 2)
    there = there.reshape(-1)
    back = torch.empty(h * w + 1, dtype=torch.int32)
    back[there.long()] = torch.arange(len(there), dtype=torch.int32)
    return there, back[:-1]


class Places:
    """The same for exported graphs: tables that follow the input's size.

    Cut and join are one `Gather` each, and what depends on the image's size alone is in
    the graph once, whatever the number of blocks.

    Args:
        x: (B, C, H, W); its size counts.
        side: Of the windows, in pixels.
    """

    def __init__(self, x: Tensor, side: int) -> None:
        self.batch, _, self.height, self.width = x.shape
        self.device = x.device
        self.side = side
        self.rows = (self.height + side - 1) // side
        self.columns = (self.width + side - 1) // side
        self._kept: dict[str, Tensor] = {}

    def cut(self, x: Tensor, shift: int) -> Tensor:
        """Returns windows (B * windows, side * side, C) of `x` (B, C, H, W).

        Places outside the image are zeros.
        """
        name = f"there{shift}"
        if name not in self._kept:
            self._kept[name] = self._there(shift)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        return F.embedding(self._kept[name], F.pad(pixels, (0, 0, 0, 1)))

    def join(self, windows: Tensor, shift: int) -> Tensor:
        """Returns the image (B, C, H, W) of windows as `cut` gives them."""
        name = f"back{shift}"
        if name not in self._kept:
            self._kept[name] = self._back(shift)
        pixels = windows.reshape(-1, windows.shape[2])
        return F.embedding(self._kept[name], pixels).permute(0, 3, 1, 2)

    def kinds(self) -> Tensor:
        """Returns 0 to 3 per window (B * windows): 2 in the last row, 1 in the last
        column."""
        if "kinds" not in self._kept:
            down = 2 * (self._range(self.rows) == self.rows - 1).long()
            across = (self._range(self.columns) == self.columns - 1).long()
            grid = (down[:, None] + across).expand(self.batch, -1, -1)
            self._kept["kinds"] = grid.reshape(-1)
        return self._kept["kinds"]

    def _range(self, count: int) -> Tensor:
        return torch.arange(count, device=self.device)

    def _there(self, shift: int) -> Tensor:
        """Returns the pixel at each place, (B * windows, side * side)."""
        h, w, side = self.height, self.width, self.side

        def sources(count: int) -> Tensor:
            at = self._range(count * side) + shift
            return torch.where(at < count * side, at, at - count * side)

        down, across = sources(self.rows)[:, None], sources(self.columns)
        image = self._range(self.batch)[:, None, None]
        pixel = image * (h * w) + (down * w + across)
        inside = (down < h) & (across < w)
        pixel = torch.where(inside, pixel, self.batch * h * w)  # the row of zeros
        pixel = pixel.reshape(self.batch, self.rows, side, self.columns, side)
        return pixel.transpose(2, 3).reshape(-1, side * side)

    def _back(self, shift: int) -> Tensor:
        """Returns the place of each pixel, (B, H, W)."""
        side = self.side

        def targets(size: int, count: int) -> Tensor:
            at = self._range(size) - shift
            return torch.where(at >= 0, at, at + count * side)

        step = self._range(side)
        down = self._range(self.rows)[:, None] * (self.columns * side**2) + step * side
        across = self._range(self.columns)[:, None] * side**2 + step
        down = down.reshape(-1).index_select(0, targets(self.height, self.rows))
        across = across.reshape(-1).index_select(0, targets(self.width, self.columns))
        image = self._range(self.batch) * (self.rows * self.columns * side**2)
        return image[:, None, None] + (down[:, None] + across)


def attend(
    windows: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    added: Tensor | None = None,
) -> Tensor:
    """Attention inside windows in few plain steps, before the last projection.

    Args:
        windows: (windows, N, C).
        weight: (3 * C, C), of queries, keys and values.
        bias: (3 * C).
        heads: Attention heads.
        added: (windows or 1, heads, N, N) to add to the scores.
    """
    n, c = windows.shape[1:]
    qkv = F.linear(windows, weight, bias).reshape(-1, n, 3 * heads, c // heads)
    q, k, v = qkv.transpose(1, 2).split(heads, 1)  # (windows, heads, N, d)
    scores = (q * (c // heads) ** -0.5) @ k.transpose(2, 3)
    if added is not None:
        scores = scores + added
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, c)
