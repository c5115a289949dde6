"""Between NumPy's pixels and torch's tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def white(dtype: np.dtype) -> int:
    """Returns the value of full white: 255, 65535, or 1 for floats."""
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
    if device.type != "cpu" and array.dtype == np.uint8:
        # A quarter of the bytes over the bus, and the device converts.
        pixels = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        return pixels.permute(2, 0, 1)[None].float().div_(white(array.dtype))
    values = np.ascontiguousarray(array.transpose(2, 0, 1)[None]).astype(np.float32)
    return torch.from_numpy(values).to(device).div_(white(array.dtype))


def to_array(x: Tensor, dtype: np.dtype) -> np.ndarray:
    """Turns (1, C, H, W) in [0, 1] into (H, W, C) values, rounded to nearest."""
    x = x[0].float().clamp(0, 1)
    if np.issubdtype(dtype, np.floating):
        return _pixels(x).astype(dtype, copy=False)
    scaled = x.mul_(white(dtype)).add_(0.5)
    kept = scaled.to(torch.uint8 if dtype == np.uint8 else torch.int32)
    return _pixels(kept).astype(dtype, copy=False)


def _pixels(x: Tensor) -> np.ndarray:
    """Turns (C, H, W) into (H, W, C); the device reorders what comes from it."""
    lines = x.permute(1, 2, 0)
    return lines.numpy() if x.is_cpu else lines.contiguous().cpu().numpy()


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turns floats in [0, 1] into `dtype`, rounded to nearest."""
    values = values.clip(0, 1)
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    return (values * white(dtype) + 0.5).astype(dtype)
