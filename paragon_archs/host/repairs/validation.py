"""The host's validation, on any device and for images of any size."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ...engine.validation import validate

__all__ = ["or_nan", "validate", "with_results_in_place", "with_views"]

BLOCKS = 2  # NIQE fits a Gaussian to blocks; one has no covariance


def with_results_in_place(own: Callable[..., None]) -> Callable[..., None]:
    """Wraps a video model's validation: its results lie on the model's device.

    The host makes them once, on a GPU, for the folders of the first data set.
    """

    @functools.wraps(own)
    def dist_validation(
        model: Any,
        dataloader: Any,
        current_iter: object,
        tb_logger: object,
        save_img: bool,
    ) -> None:
        metrics = model.opt["val"].get("metrics")
        if metrics:
            frames = Counter(dataloader.dataset.data_info["folder"])
            model.metric_results = {
                folder: torch.zeros(count, len(metrics), device=model.device)
                for folder, count in frames.items()
            }
        own(model, dataloader, current_iter, tb_logger, save_img)

    return dist_validation


def with_views(own: Callable[..., None]) -> Callable[..., None]:
    """Wraps a video model's `feed_data`: it keeps views of what it is given.

    The host squeezes the given tensors in place before it uses them. Tensors that have
    moved to a GPU are copies, those on a CPU are the same.
    """

    @functools.wraps(own)
    def feed_data(model: object, data: Mapping[str, object]) -> None:
        tensors = {k: v for k, v in data.items() if isinstance(v, torch.Tensor)}
        own(model, {**data, **{k: v[:] for k, v in tensors.items()}})

    return feed_data


def or_nan(own: Callable[..., float]) -> Callable[..., float]:
    """Wraps NIQE: an image below two blocks, or a plain one, has none: NaN."""

    @functools.wraps(own)
    def niqe(img: np.ndarray, *arguments: object, **options: object) -> float:
        sides = [options.get(f"block_size_{axis}", 96) for axis in "hw"]
        blocks = [size // side for size, side in zip(img.shape, sides, strict=True)]
        if blocks[0] * blocks[1] < BLOCKS:
            return float("nan")
        try:
            return own(img, *arguments, **options)
        except np.linalg.LinAlgError:
            return float("nan")

    return niqe
