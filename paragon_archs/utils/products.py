"""Products that stay in float32 where a GPU may take TF32 for others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_products(device: torch.device) -> Iterator[None]:
    """Multiplies in float32 on a device where training allows it less.

    TF32 keeps 10 bits, too few for pixels of 8 that are rounded next.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cpu" or before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
