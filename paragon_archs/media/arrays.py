"""Between NumPy's pixels and torch's tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def max_value(dtype: np.dtype) -> int:
    """Returns the white level: 255, 65535, or 1 for floats."""
    return 1 if np.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def check_array(array: np.ndarray) -> None:
    """Raises ValueError unless `array` is (H, W) or (H, W, 1 to 4) of a known dtype."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in range(1, 5) or not array.size:
        raise ValueError(
            "Expected an image of shape (H, W) or (H, W, 1 to 4), but got "
            f"{array.shape!r}. Put the channels last."
        )
    floating = np.issubdtype(array.dtype, np.floating)
    if array.dtype not in (np.uint8, np.uint16) and not floating:
        raise ValueError(
            f"Expected uint8, uint16 or float values, but got {array.dtype}. Convert "
            "the array first."
        )


def to_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """Turns (H, W, C) values into a float32 tensor (1, C, H, W) in [0, 1]."""
    if device.type != "cpu" and array.dtype in BITS:
        # A part of the bytes over the bus, and the device converts.
        return from_pixels(as_pixels(array).to(device))
    values = np.ascontiguousarray(array.transpose(2, 0, 1)[None]).astype(np.float32)
    return torch.from_numpy(values).to(device).div_(max_value(array.dtype))


def to_array(x: Tensor, dtype: np.dtype) -> np.ndarray:
    """Turns (1, C, H, W) in [0, 1] into (H, W, C) values, rounded to nearest."""
    if np.issubdtype(dtype, np.floating):
        lines = x[0].float().clamp(0, 1).permute(1, 2, 0)
        return (
            (lines if x.is_cpu else lines.contiguous().cpu())
            .numpy()
            .astype(dtype, copy=False)
        )
    return of_pixels(to_pixels(x, dtype).cpu())


# Integers as they travel: few devices compute with 16 bits without sign, so these are
# looked at as signed ones.
BITS = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.int16}


def as_pixels(array: np.ndarray) -> Tensor:
    """Returns integers (H, W, C) as a tensor on the CPU that shares their memory."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array.view(np.int16) if array.itemsize == 2 else array)


def of_pixels(pixels: Tensor) -> np.ndarray:
    """Returns what `as_pixels` made a tensor of."""
    array = pixels.numpy()
    return array.view(np.uint16) if array.itemsize == 2 else array


def from_pixels(pixels: Tensor) -> Tensor:
    """Turns (H, W, C) of `as_pixels`, where they are, into (1, C, H, W) in [0, 1]."""
    x = pixels.permute(2, 0, 1)[None]
    if pixels.dtype == torch.int16:
        return (x.int() & 0xFFFF).float().div_(0xFFFF)
    return x.float().div_(0xFF)


def to_pixels(x: Tensor, dtype: np.dtype) -> Tensor:
    """Turns (1, C, H, W) in [0, 1] into (H, W, C) of `of_pixels`, where it is."""
    scaled = x[0].float().clamp(0, 1).mul_(max_value(dtype)).add_(0.5)
    if dtype == np.uint16:
        scaled = scaled.int()
    # Stacked is a third of the time of a transposition, on a CPU.
    return torch.stack(tuple(scaled.to(BITS[np.dtype(dtype)])), 2)


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turns floats in [0, 1] into `dtype`, rounded to nearest."""
    values = values.clip(0, 1)
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    return (values * max_value(dtype) + 0.5).astype(dtype)
