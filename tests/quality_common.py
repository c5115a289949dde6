"""Pictures for the tests of measures."""

from __future__ import annotations

import numpy as np
import torch


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with edges, (H, W, 3), uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x / rng.uniform(2, 9) + rng.uniform(0, 6))
        * np.cos(y / rng.uniform(2, 9))
        for _ in range(3)
    ]
    image = 128 + 70 * np.stack(waves, -1) + 40 * ((x + 2 * y) % 31 > 15)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
