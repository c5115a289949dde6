"""MATLAB's bicubic `imresize` on torch tensors, in batches, on any device.

The field's low-resolution images are made by this one filter: Keys' cubic (a = -0.5),
widened by the scale when downscaling, each output's weights normalized, the border
mirrored with the edge pixel repeated. (Pillow's bicubic renormalizes at the border
instead of mirroring, and OpenCV's has a = -0.75 and never widens: neither is a
substitute.) Source: MATLAB's documentation of `imresize`, and Keys, "Cubic convolution
interpolation for digital image processing", 1981.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from .products import full_products

# Outputs per matrix product. A row of the whole matrix holds some twenty weights and
# zeros elsewhere; small dense blocks waste little and run at the speed of a gemm.
_BLOCK = 16

# One block: the first input that it reads, and its weights (outputs, inputs read).
_Block = tuple[int, Tensor]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5, zero outside [-2, 2]."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def weight_matrix(
    length: int, out_length: int, scale: float, antialias: bool = True
) -> np.ndarray:
    """Returns the matrix (out_length, length), float64, that resizes one axis.

    Args:
        length: Pixels of the input along the axis.
        out_length: Pixels of the output.
        scale: Output pixel pitch over input pixel pitch; not always
            `out_length / length`, since a length is rounded up.
        antialias: Whether to widen the kernel when downscaling.
    """
    stretch = scale if antialias and scale < 1 else 1.0
    support = 4 / stretch
    # Centers of the output pixels in input coordinates, both counted from 0.
    centers = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centers - support / 2).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(support) + 2)
    weights = _cubic((centers[:, None] - taps) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    # Mirror with the edge repeated, as often as a tiny image needs it.
    taps %= 2 * length
    taps = np.where(taps < length, taps, 2 * length - 1 - taps)
    matrix = np.zeros((out_length, length))
    np.add.at(matrix, (np.arange(out_length)[:, None], taps), weights)
    return matrix


@functools.lru_cache(maxsize=128)
def _blocks(
    length: int,
    out_length: int,
    scale: float,
    antialias: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[_Block, ...]:
    """Returns the matrix cut into blocks of outputs, each with the inputs it reads."""
    matrix = weight_matrix(length, out_length, scale, antialias)
    blocks = []
    for start in range(0, out_length, _BLOCK):
        rows = matrix[start : start + _BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        window = rows[:, used[0] : used[-1] + 1]
        # A cached tensor must serve calls under autograd too.
        with torch.inference_mode(False):
            weights = torch.tensor(window, dtype=dtype, device=device)
        blocks.append((int(used[0]), weights))
    return tuple(blocks)


def _target(
    height: int, width: int, scale: float | None, size: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Returns the size of a result, and the factor of each axis."""
    if (scale is None) == (size is None):
        raise ValueError(
            f"Expected one of scale and size, but got {scale!r} and {size!r}. "
            "Give exactly one."
        )
    if size is not None:
        out_height, out_width = size
        scales = (out_height / height, out_width / width)
    else:
        scales = (float(scale or 0), float(scale or 0))
        if not 0 < scales[0] < math.inf:
            raise ValueError(
                f"Expected scale to be a positive number, but got {scale!r}. "
                "Below 1 downscales, above 1 upscales."
            )
        out_height = math.ceil(height * scales[0])
        out_width = math.ceil(width * scales[1])
    if out_height < 1 or out_width < 1:
        raise ValueError(
            f"Expected size to be at least (1, 1), but got {size!r}. "
            "It is (height, width) in pixels."
        )
    return (out_height, out_width), scales


def imresize(
    x: Tensor,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    antialias: bool = True,
) -> Tensor:
    """Resizes images as MATLAB's `imresize(x, scale)` (bicubic) does.

    Args:
        x: Images (B, C, H, W), floating point, any range, any device.
        scale: Factor for both axes; the result is ceil(H * scale) x ceil(W * scale).
        size: (height, width) of the result, instead of `scale`; each axis then has
            its own factor, size over input, as in MATLAB.
        antialias: Whether to widen the kernel when downscaling, MATLAB's default.

    Returns:
        The resized images, of x's dtype and device, neither rounded nor clipped.
        Computed in float32 at least.

    Raises:
        TypeError: when x is not a floating point tensor.
        ValueError: when x is not (B, C, H, W) with pixels, when not exactly one of
            scale and size is given, or when it is not positive.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"Expected x to be a floating point tensor, but got {got!r}. "
            "Convert it with `.float()`; the range does not matter."
        )
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(
            f"Expected x to be images (B, C, H, W), but got shape {tuple(x.shape)!r}. "
            "Add the missing axes with `[None]`."
        )
    height, width = x.shape[2:]
    (out_height, out_width), scales = _target(height, width, scale, size)
    dtype = torch.promote_types(x.dtype, torch.float32)
    device = x.device
    y = x.to(dtype)
    rows = _blocks(height, out_height, scales[0], antialias, dtype, device)
    columns = _blocks(width, out_width, scales[1], antialias, dtype, device)
    with full_products(device):
        y = torch.cat([m @ y[..., i : i + m.shape[1], :] for i, m in rows], dim=-2)
        y = torch.cat([y[..., i : i + m.shape[1]] @ m.mT for i, m in columns], dim=-1)
    return y.to(x.dtype)
