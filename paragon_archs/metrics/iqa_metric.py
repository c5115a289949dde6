"""Perceptual measures of pyiqa as validation metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..utils.registry import METRIC_REGISTRY


@functools.lru_cache
def _load(metric: str) -> Callable[[Tensor, Tensor], float]:
    from ..evaluation.iqa import load_metrics  # noqa: PLC0415 (pyiqa is slow)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found, failed = load_metrics([metric], device)
    if failed:
        raise ValueError(
            f"Expected the metric {metric!r} to run, but {failed[metric]}. Leave it "
            "out of val:metrics, or run once with a connection."
        )
    return next(iter(found.values()))


def _tensor(image: np.ndarray, border: int) -> Tensor:
    pixels = image[..., None].repeat(3, axis=2) if image.ndim == 2 else image
    height, width = pixels.shape[:2]
    rgb = pixels[border : height - border, border : width - border, 2::-1]
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float()


@METRIC_REGISTRY.register()
def calculate_iqa(
    img: np.ndarray,
    img2: np.ndarray,
    metric: str = "lpips",
    crop_border: int = 0,
    better: str = "lower",
    **host: object,
) -> float:
    """Measures a result against its target by pyiqa.

    Args:
        img: The result, (H, W, 3) in BGR as the host's images, or (H, W), 0 to 255.
        img2: The target, likewise.
        metric: lpips, dists, topiq_fr, psnr, psnr_y, ssim or ssim_c.
        crop_border: Pixels left out on each side.
        better: Which values are better; read by the host, not here.
        **host: Other images that the host hands to every metric.

    Raises:
        ValueError: for an unknown metric, or one whose weights cannot be had.
        ImportError: when pyiqa is not installed.
    """
    del better, host
    return _load(metric)(_tensor(img, crop_border), _tensor(img2, crop_border))
