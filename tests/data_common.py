"""Small pictures and data sets for the tests of `paragon_archs.data`."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from paragon_archs.data.hr_dataset import HRImageDataset

CPU = torch.device("cpu")


def write_pictures(folder):
    """Writes five pictures of edges and waves, 96 x 80, and one of 192 x 160."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        size = (160, 192) if seed == 5 else (80, 96)
        y, x = np.mgrid[: size[0], : size[1]]
        array = 120 + 60 * np.sin(x / rng.uniform(1, 6)) * np.cos(y / rng.uniform(1, 6))
        array = array + 50 * ((x * rng.uniform(-1, 1) + y) % 23 > 11)
        rgb = np.stack([array, array * 0.9, 250 - array], -1)
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(folder / f"{seed}.png")
    return folder


def make(folder, kind=None, **changes):
    """Builds a training set of 24-pixel crops at scale 2, changed."""
    kind = kind or HRImageDataset
    section = {
        "name": "few",
        "type": kind.__name__,
        "phase": "train",
        "scale": 2,
        "dataroot_gt": str(folder),
        "gt_size": 24,
        **changes,
    }
    return kind(section)


def batch(dataset, count=8, seed=0):
    """Makes a batch on the CPU; sample i has the seed `seed + i`."""
    indices = [i % len(dataset) for i in range(count)]
    return dataset.batch(indices, [seed + i for i in range(count)], CPU)
