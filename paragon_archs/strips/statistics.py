"""Statistics of a whole image from those of its strips.

In float64 on a CPU; elsewhere in float32, which every device has, and without a value
that the program waits for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..archs.paragonsr_arch import image_moments, with_moments
from ..utils.halves import HALVES
from .nodes import Node
from .rules import argument


class Moments:
    """Mean and variance per image and group of channels, for a group norm.

    Strips are merged with the formula of Chan, Golub and LeVeque (1979), which does
    not lose digits where the mean is large.
    """

    def __init__(self, groups: int = 1, eps: float = 1e-5) -> None:
        self._groups = groups
        self._eps = eps
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Takes in the rows (B, C, rows, W) of a strip."""
        batch, channels = x.shape[:2]
        count = x[0].numel() // self._groups
        if not x.is_cpu:
            mean, variance = image_moments(x, self._groups)
            self._merge(count, mean, variance * count)
            return
        mean, squares = self._from_sums(x, count)
        if mean is None or squares is None:
            # torch's own kernel for these moments: far faster than `var_mean`.
            if x.dtype in HALVES:
                x = x.contiguous()
            _, mean, inverse = torch.native_group_norm(
                x, None, None, batch, channels, x[0, 0].numel(), self._groups, self._eps
            )
            mean = mean.double()
            squares = (inverse.double() ** -2 - self._eps) * count
        self._merge(count, mean, squares)

    def _merge(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self._count, self._mean, self._squares = count, mean, squares
            return
        total = self._count + count
        delta = mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._squares = (
            self._squares + squares + delta.square() * (self._count * count / total)
        )
        self._count = total

    def _from_sums(self, x: Tensor, count: int) -> tuple[Tensor | None, Tensor | None]:
        """Returns mean and squared deviations from sums, None where they lose digits.

        Each row of the image is summed in float32 (per channel where there are
        groups), the rows in float64.
        """
        if x.dtype != torch.float32:
            return None, None
        lines = x.permute(0, 2, 3, 1)
        if self._groups == 1:
            lines = lines.flatten(2).unsqueeze(3)

        def in_groups(rows: Tensor) -> Tensor:  # (B, H, 1 or C) to (B, G)
            return rows.sum(1).unflatten(1, (self._groups, -1)).sum(2)

        mean = in_groups(lines.sum(2).double()) / count
        norms = torch.linalg.vector_norm(lines, dim=2)
        square = in_groups(norms.double().square())
        squares = square - count * mean.square()
        if bool((squares < 0.05 * square).any()):
            return None, None
        return mean, squares

    def finish(self) -> tuple[Tensor, Tensor]:
        """Returns mean and 1 / sqrt(variance + eps), both (B, G)."""
        assert self._mean is not None and self._squares is not None
        return self._mean, torch.rsqrt(self._squares / self._count + self._eps)


class GroupNorm:
    """A recorded group norm: what it takes, and what it does to a strip."""

    def __init__(self, node: Node) -> None:
        self.groups: int = argument(node, 1, "num_groups", 1)
        self.eps: float = argument(node, 4, "eps", 1e-5)
        self._weight: Tensor | None = argument(node, 2, "weight", None)
        self._bias: Tensor | None = argument(node, 3, "bias", None)

    def __call__(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        """Norms (B, C, rows, W) by the whole image's statistics."""
        mean, inverse = norm
        if not x.is_cpu:
            return with_moments(x, mean, inverse, self._weight, self._bias)
        each = x.shape[1] // self.groups
        factor = inverse.repeat_interleave(each, 1)
        summand = (-mean * inverse).repeat_interleave(each, 1)
        if self._weight is not None:
            weight = self._weight.to(factor.dtype)
            factor, summand = factor * weight, summand * weight
        if self._bias is not None:
            summand = summand + self._bias.to(factor.dtype)
        factor, summand = (t[..., None, None].to(x.dtype) for t in (factor, summand))
        return torch.addcmul(summand, x, factor)


class Mean:
    """The mean over the image, weighted by the rows of each strip."""

    def __init__(self) -> None:
        self._rows = 0
        self._sum: Tensor | None = None

    def add(self, mean: Tensor, rows: int) -> None:
        """Takes in the mean over a strip of so many rows."""
        weighted = (mean.double() if mean.is_cpu else mean.float()) * rows
        self._sum = weighted if self._sum is None else self._sum + weighted
        self._rows += rows

    def finish(self, dtype: torch.dtype) -> Tensor:
        """Returns the mean over all strips."""
        assert self._sum is not None
        return (self._sum / self._rows).to(dtype)


def moments_of(node: Node) -> Moments:
    """Returns the empty statistics of a norm."""
    if node.rule.given:
        return Moments()
    norm = GroupNorm(node)
    return Moments(norm.groups, norm.eps)
