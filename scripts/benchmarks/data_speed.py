"""How many training pairs a second come out of a folder, beside BasicSR's own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler

from paragon_archs.data.hr_dataset import HRImageDataset
from paragon_archs.data.reading import find_images, read_image
from paragon_archs.data.stream import SampleStream, lone_opencv
from paragon_archs.utils.registry import DATASET_REGISTRY
from paragon_archs.utils.resize import imresize


@dataclass(frozen=True)
class DataSpeed:
    """Medians of pairs per second, and of their ratio in each round."""

    host: float
    ours: float
    ratio: float
    images: int


def write_pairs(images: Path, folder: Path, scale: int) -> int:
    """Writes PNG pairs as BasicSR trains on: `gt` and its bicubic `lq`.

    Returns:
        How many.
    """
    files = find_images(images)
    for name in ("gt", "lq"):
        (folder / name).mkdir()
    for file in files:
        image = read_image(file, 3)
        height, width = (side // scale * scale for side in image.shape[1:])
        gt = torch.from_numpy(image[:, :height, :width].astype(np.float32))
        lq = imresize(gt[None], 1 / scale)[0].round().clamp(0, 255)
        for name, side in (("gt", gt), ("lq", lq)):
            pixels = side.byte().permute(1, 2, 0).numpy()[..., ::-1]
            path = folder / name / f"{file.stem}.png"
            cv2.imwrite(str(path), np.ascontiguousarray(pixels))
    return len(files)


def _host_loader(
    folder: Path, scale: int, size: int, batch: int, workers: int, pairs: int
) -> DataLoader[Any]:
    """BasicSR's data set in a loader whose workers stay, which the host's do not."""
    dataset = DATASET_REGISTRY.get("PairedImageDataset")(
        {
            "name": "pairs",
            "phase": "train",
            "scale": scale,
            "dataroot_gt": str(folder / "gt"),
            "dataroot_lq": str(folder / "lq"),
            "io_backend": {"type": "disk"},
            "gt_size": size,
            "use_hflip": True,
            "use_rot": True,
        }
    )
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=RandomSampler(dataset, replacement=True, num_samples=pairs),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )


def measure_data(
    images: Path,
    folder: Path,
    scale: int = 4,
    size: int = 192,
    batch: int = 16,
    workers: int = 2,
    rounds: int = 5,
    pairs: int = 96,
) -> DataSpeed:
    """Times both sources of pairs in turn, after a warm-up of each.

    Args:
        images: Folder of high-resolution images.
        folder: Empty folder for the PNG pairs that the host reads.
        scale: Downscaling factor.
        size: Side of the high-resolution crop in pixels.
        batch: Pairs of a batch.
        workers: The host's reading processes; ours has none.
        rounds: Measured rounds.
        pairs: Pairs that the host makes in a round; ours makes ten times as many.
    """
    lone_opencv()
    count = write_pairs(images, folder, scale)
    host = _host_loader(folder, scale, size, batch, workers, pairs)
    ours = HRImageDataset(
        {
            "name": "hr",
            "phase": "train",
            "scale": scale,
            "dataroot_gt": str(folder / "gt"),
            "gt_size": size,
        }
    )
    stream = SampleStream(len(ours), batch, seed=0)
    steps = iter(range(1 << 30))

    def from_host() -> Iterator[int]:
        for made in host:
            yield len(made["lq"])

    def from_ours() -> Iterator[int]:
        for _ in range(10 * pairs // batch):
            indices, seeds = zip(*stream.batch_of(next(steps)), strict=True)
            made = ours.batch(indices, seeds, torch.device("cpu"))
            yield len(made["lq"])

    def rate(source: Iterator[int]) -> float:
        start = time.perf_counter()
        return sum(source) / (time.perf_counter() - start)

    rate(from_host())
    rate(from_ours())
    measured = [(rate(from_host()), rate(from_ours())) for _ in range(rounds)]
    theirs, own = zip(*measured, strict=True)
    ratio = statistics.median(b / a for a, b in measured)
    return DataSpeed(statistics.median(theirs), statistics.median(own), ratio, count)
