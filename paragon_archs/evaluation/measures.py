"""PSNR and SSIM as the field's papers compute them, in float64.

Images are 8-bit values as float tensors (C, H, W) in [0, 255]; on the Y channel of
BT.601, a border of `scale` pixels is left out. Sources: Wang et al., "Image Quality
Assessment: From Error Visibility to Structural Similarity", 2004, with its MATLAB
code's constants; MATLAB's `rgb2ycbcr`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_GRAY = (0.299, 0.587, 0.114)


def quantize(image: Tensor) -> Tensor:
    """Returns an image in [0, 1] as 8-bit values in [0, 255], float64."""
    return (image.double() * 255).round().clamp(0, 255)


def luma(image: Tensor) -> Tensor:
    """Returns Y of BT.601 (1, H, W), 16 to 235, of RGB (3, H, W) in [0, 255]."""
    weights = torch.tensor(_LUMA, dtype=image.dtype, device=image.device)
    return torch.einsum("c,chw->hw", weights, image)[None] + 16


def gray(image: Tensor) -> Tensor:
    """Returns the full-range luma (1, H, W), 0 to 255, of RGB (3, H, W)."""
    weights = torch.tensor(_GRAY, dtype=image.dtype, device=image.device)
    return torch.einsum("c,chw->hw", weights, image)[None]


def shave(image: Tensor, border: int) -> Tensor:
    """Returns `image` (C, H, W) without `border` pixels on each side.

    Raises:
        ValueError: when nothing would be left.
    """
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(
            f"Expected an image larger than twice the border of {border} pixels, but "
            f"got {width} x {height}. Leave the image out or lower the scale."
        )
    return image[..., border : height - border, border : width - border]


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"Expected two images of one shape, but got {tuple(a.shape)} and "
            f"{tuple(b.shape)}. Compare an image with its own reference."
        )


def psnr(a: Tensor, b: Tensor) -> float:
    """Returns 10 log10(255^2 / MSE) in dB over all channels; inf for equal images."""
    _check(a, b)
    error = (a.double() - b.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(a: Tensor, b: Tensor) -> float:
    """Returns the mean SSIM: 11 x 11 Gaussian of sigma 1.5, valid area, per channel.

    Raises:
        ValueError: when the shapes differ or a side is shorter than 11 pixels.
    """
    _check(a, b)
    if min(a.shape[-2:]) < 11:
        raise ValueError(
            f"Expected images of at least 11 x 11 pixels, but got {tuple(a.shape)}. "
            "The window of SSIM does not fit."
        )
    x, y = a.double()[:, None], b.double()[:, None]  # channels as a batch
    taps = torch.arange(-5, 6, dtype=torch.float64, device=a.device)
    kernel = torch.exp(-(taps**2) / (2 * 1.5**2))
    kernel = kernel / kernel.sum()

    def blur(image: Tensor) -> Tensor:
        image = F.conv2d(image, kernel.view(1, 1, 1, 11))
        return F.conv2d(image, kernel.view(1, 1, 11, 1))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = blur(x), blur(y)
    var_x = blur(x * x) - mean_x**2
    var_y = blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score = score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return score.mean().item()
