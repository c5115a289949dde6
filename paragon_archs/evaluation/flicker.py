"""How much a static scene flickers, and what steadying it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..inference.temporal import FrameUpscaler
from ..inference.upscaler import Upscaler
from ..utils.resize import imresize


@dataclass(frozen=True)
class Flicker:
    """Figures of one noise level.

    Attributes:
        sigma: Of the noise, in 255ths.
        single: Mean squared difference of consecutive frames, every one by itself.
        temporal: The same in the temporal mode.
        single_psnr: dB against the clean frame, every frame by itself.
        temporal_psnr: The same in the temporal mode.
    """

    sigma: float
    single: float
    temporal: float
    single_psnr: float
    temporal_psnr: float

    @property
    def lowered(self) -> float:
        """Share of the flicker that the temporal mode takes away."""
        return 1 - self.temporal / self.single


def measure_flicker(
    upscaler: Upscaler,
    clean: np.ndarray,
    sigmas: Sequence[float] = (2, 5, 10),
    alpha: float = 0.2,
    frames: int = 16,
    settle: int = 6,
) -> list[Flicker]:
    """Upscales a still scene with fresh noise on each frame, in both modes.

    Args:
        upscaler: With a network that has a feature tap.
        clean: (H, W, 3), uint8: the high-resolution scene. The frames are its MATLAB
            bicubic reduction plus Gaussian noise, rounded to 8 bits.
        sigmas: Standard deviations of the noise, in 255ths.
        alpha: Share of the frame before.
        frames: How many frames are counted.
        settle: Frames before them, in which the recursive filter settles.
    """
    s = upscaler.scale
    height, width = (side // s * s for side in clean.shape[:2])
    clean = clean[:height, :width]
    x = torch.from_numpy(clean.transpose(2, 0, 1)[None].astype(np.float64))
    low = imresize(x, 1 / s)[0].permute(1, 2, 0).numpy()
    found = []
    for sigma in sigmas:
        rng = np.random.default_rng(0)
        noisy = [
            (low + rng.normal(0, sigma, low.shape)).round().clip(0, 255)
            for _ in range(settle + frames)
        ]
        scene = [frame.astype(np.uint8) for frame in noisy]
        single = _figures(FrameUpscaler(upscaler), scene, settle, clean)
        blended = _figures(FrameUpscaler(upscaler, alpha), scene, settle, clean)
        found.append(Flicker(sigma, single[0], blended[0], single[1], blended[1]))
    return found


def _figures(
    worker: FrameUpscaler, scene: Sequence[np.ndarray], settle: int, clean: np.ndarray
) -> tuple[float, float]:
    """Returns mean squared difference of consecutive frames, and dB against clean."""
    before: np.ndarray | None = None
    differences, errors = [], []
    for index, frame in enumerate(scene):
        upscaled = worker.frames([frame])[0].astype(np.float64)
        if index >= settle and before is not None:
            differences.append(((upscaled - before) ** 2).mean())
            errors.append(((upscaled - clean) ** 2).mean())
        before = upscaled
    return float(np.mean(differences)), float(10 * np.log10(255**2 / np.mean(errors)))
