"""The eight flips and turns of a square, for arrays and tensors alike."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

A = TypeVar("A", np.ndarray, torch.Tensor)

SYMMETRIES = 8


def transform(
    image: A, symmetry: int, back: bool = False, axes: tuple[int, int] = (0, 1)
) -> A:
    """Returns one of the eight flips and turns of an image, or takes it back.

    Args:
        image: An array or a tensor; arrays come back as views.
        symmetry: 0 (the image itself) to 7; the first bit flips rows, the second
            columns, the third then swaps the two.
        back: Whether to undo the transform instead.
        axes: Those of the rows and the columns.
    """
    rows, columns = axes
    turned: Any = image
    if back and symmetry & 4:
        turned = turned.swapaxes(rows, columns)
    flips = tuple(axis for bit, axis in ((1, rows), (2, columns)) if symmetry & bit)
    if flips:
        is_tensor = isinstance(image, torch.Tensor)
        turned = turned.flip(flips) if is_tensor else np.flip(turned, flips)
    if not back and symmetry & 4:
        turned = turned.swapaxes(rows, columns)
    return turned
