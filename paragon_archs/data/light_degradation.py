"""Slight blur, noise and JPEG on batches of images, on any device.

What photographs from cameras, phones and the web have: cheap beside Real-ESRGAN's
chain, and close to what libjpeg writes. All that is random in an image follows from
its own seed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.draws import uniform
from ..utils.products import full_products
from .pairs import quantize, upload

BLOCK = 8
MCU = 16  # side of what JPEG with half chroma codes together

# Annex K of the JPEG standard (ITU-T T.81), row by row: luma and chroma.
LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


@dataclass(frozen=True)
class LightDegradation:
    """How much of what; each range is drawn from uniformly.

    Attributes:
        jpeg_quality: Range of libjpeg's quality, 1 to 100.
        jpeg_prob: Share of images that are saved as JPEG.
        full_chroma_prob: Share of these whose chroma is not halved (4:4:4).
        blur_sigma: Range of a Gaussian's width in low-resolution pixels.
        blur_prob: Share of images that are blurred.
        noise: Range of a Gaussian noise's standard deviation, of 255.
        noise_prob: Share of images with noise.
    """

    jpeg_quality: Sequence[float] = (40, 95)
    jpeg_prob: float = 0.9
    full_chroma_prob: float = 0.2
    blur_sigma: Sequence[float] = (0.2, 0.6)
    blur_prob: float = 0.2
    noise: Sequence[float] = (0, 4)
    noise_prob: float = 0.2

    def __call__(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Degrades images (B, 3, H, W) in [0, 1]; the result is rounded to 8 bits."""
        chance = uniform(seeds, 7)

        def drawn(limits: Sequence[float], column: int) -> np.ndarray:
            return limits[0] + (limits[1] - limits[0]) * chance[:, column]

        blurred = chance[:, 0] < self.blur_prob
        if blurred.any():
            x = blur(x, np.where(blurred, drawn(self.blur_sigma, 1), 0.0))
        noisy = np.flatnonzero(chance[:, 2] < self.noise_prob)
        if len(noisy):
            x = x.clone()
            deviations = drawn(self.noise, 3).tolist()
            for index in noisy.tolist():
                generator = torch.Generator(x.device).manual_seed(seeds[index])
                noise = torch.randn(x.shape[1:], generator=generator, device=x.device)
                x[index] += noise * (deviations[index] / 255)
        x = quantize(x.clone())
        saved = chance[:, 4] < self.jpeg_prob
        full = chance[:, 5] < self.full_chroma_prob
        quality = drawn(self.jpeg_quality, 6)
        for halved in (False, True):
            chosen = np.flatnonzero(saved & (full != halved))
            if len(chosen):
                index = upload(chosen, x.device)
                x[index] = jpeg(x[index], quality[chosen], halved)
        return x


def blur(x: Tensor, sigmas: np.ndarray) -> Tensor:
    """Blurs each image (B, C, H, W) by its own Gaussian; 0 leaves it as it is."""
    b, c, h, w = x.shape
    at = np.arange(-2, 3)
    taps = np.exp(-(at**2) / (2 * np.maximum(sigmas, 1e-3)[:, None] ** 2))
    taps /= taps.sum(1, keepdims=True)
    kernel = _like(taps, x).repeat_interleave(c, 0).view(b * c, 1, 1, 5)
    y = F.pad(x, (2, 2, 2, 2), mode="replicate").reshape(1, b * c, h + 4, w + 4)
    y = F.conv2d(y, kernel, groups=b * c)
    y = F.conv2d(y, kernel.transpose(2, 3), groups=b * c)
    return y.view(b, c, h, w)


def _like(numbers: np.ndarray, x: Tensor) -> Tensor:
    """Returns numbers in the dtype of `x` and where it is; nobody waits for them."""
    return upload(torch.from_numpy(numbers).to(x.dtype).numpy(), x.device)


@functools.cache
def _cosines(device: torch.device) -> Tensor:
    """Returns the two-dimensional DCT of a block's 64 pixels, (64, 64)."""
    k = torch.arange(BLOCK, dtype=torch.float64)
    one = torch.cos((2 * k + 1) * k[:, None] * torch.pi / (2 * BLOCK)) / 2
    one[0] /= 2**0.5
    return torch.kron(one, one).float().to(device)


def tables(quality: np.ndarray, base: Sequence[int]) -> np.ndarray:
    """Returns libjpeg's quantization tables for qualities, (B, 64)."""
    whole = np.clip(np.rint(quality), 1, 100)
    factor = np.where(whole < 50, 5000 // whole, 200 - 2 * whole)
    scaled = (np.asarray(base) * factor[:, None] + 50) // 100
    return np.clip(scaled, 1, 255)


def _coded(plane: Tensor, table: np.ndarray) -> Tensor:
    """Returns planes (B, C, H, W) as they come back from their rounded DCT."""
    b, c, h, w = plane.shape
    dct = _cosines(plane.device)
    steps = _like(table, plane).view(b, 1, BLOCK * BLOCK)
    blocks = plane.view(b, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    blocks = blocks.permute(0, 1, 2, 4, 3, 5).reshape(b, -1, BLOCK * BLOCK) - 128
    with full_products(plane.device):
        levels = torch.round(blocks @ dct.T / steps)
        blocks = (levels * steps) @ dct + 128
    blocks = blocks.view(b, c, h // BLOCK, w // BLOCK, BLOCK, BLOCK)
    blocks = blocks.permute(0, 1, 2, 4, 3, 5).reshape(b, c, h, w)
    return blocks.round_().clamp_(0, 255)


def jpeg(x: Tensor, quality: np.ndarray, halved: bool = True) -> Tensor:
    """Returns RGB images (B, 3, H, W) in [0, 1] as libjpeg would give them back.

    Args:
        x: Images; sides that JPEG's blocks do not divide are extended and cut again.
        quality: 1 to 100, one for each image.
        halved: Whether chroma has half of the resolution (4:2:0).
    """
    h, w = x.shape[-2:]
    x = F.pad(x, (0, -w % MCU, 0, -h % MCU), mode="replicate") * 255
    r, g, b = x.unbind(1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb = (b - y) / 1.772 + 128
    cr = (r - y) / 1.402 + 128
    luma, chroma = y[:, None].round(), torch.stack((cb, cr), 1).round()
    if halved:
        chroma = F.avg_pool2d(chroma, 2).round()
    luma = _coded(luma, tables(quality, LUMA_TABLE))
    chroma = _coded(chroma, tables(quality, CHROMA_TABLE))
    if halved:  # libjpeg's triangle filter
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear")
    cb, cr = (chroma - 128).unbind(1)
    y = luma[:, 0]
    rgb = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return torch.stack(rgb, 1)[..., :h, :w].round().clamp(0, 255) / 255
