"""Whole maps, kept in pieces so that they can be given back row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Span = tuple[int, int]  # rows of the input, from and to


class Rows(Protocol):
    """Something whose rows can be read."""

    def read(self, spans: Sequence[Span]) -> Tensor:
        """Returns the rows of `spans` (rows of the input), one below the other."""
        ...

    def release(self, spans: Sequence[Span]) -> None:
        """Called when rows are no longer read."""
        ...


class Source:
    """An input whose rows are made when they are read.

    Args:
        read: From the first row and the row behind the last to (B, C, rows, W).
    """

    def __init__(self, read: Callable[[int, int], Tensor]) -> None:
        self._read = read

    def read(self, spans: Sequence[Span]) -> Tensor:
        parts = [self._read(a, b) for a, b in spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def release(self, spans: Sequence[Span]) -> None:
        pass


class Map:
    """A value of which every row is kept until it is released.

    Args:
        rows_dim: The dimension of its rows.
        factor: Its rows per row of the input.
    """

    def __init__(self, rows_dim: int, factor: int) -> None:
        self.rows_dim = rows_dim
        self.factor = factor
        self._pieces: list[tuple[int, int, Tensor]] = []

    def add(self, span: Span, rows: Tensor) -> None:
        """Keeps the rows of `span`."""
        if rows.untyped_storage().nbytes() > 1.25 * rows.numel() * rows.element_size():
            rows = rows.clone()  # a view would keep all that it was cut from
        self._pieces.append((*span, rows))
        self._pieces.sort(key=lambda piece: piece[0])

    def read(self, spans: Sequence[Span]) -> Tensor:
        parts = []
        for a, b in spans:
            for low, high, rows in self._pieces:
                if low < b and a < high:
                    start, stop = max(a, low), min(b, high)
                    parts.append(
                        rows.narrow(
                            self.rows_dim,
                            (start - low) * self.factor,
                            (stop - start) * self.factor,
                        )
                    )
        return parts[0] if len(parts) == 1 else torch.cat(parts, self.rows_dim)

    def release(self, spans: Sequence[Span]) -> None:
        """Drops the pieces that lie inside `spans`."""
        self._pieces = [
            (low, high, rows)
            for low, high, rows in self._pieces
            if not any(a <= low and high <= b for a, b in spans)
        ]
