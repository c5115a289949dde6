"""High-resolution crops with the blur kernels of Real-ESRGAN's degradations.

BasicSR's `RealESRGANDataset` decodes a file per sample and crops 400 pixels, always;
this one takes its crops from decoded images and its kernels from BasicSR's functions.
`ParagonGANModel` degrades the batch on the training device.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.key import Key
from ..utils.registry import DATASET_REGISTRY
from .hr_dataset import HRImageDataset, Sample
from .stream import preserved_rng

KERNEL = 21  # side of every kernel; smaller ones are padded with zeros
SIZES = tuple(range(7, KERNEL + 1, 2))
KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso")
KINDS += ("plateau_iso", "plateau_aniso")


def _range(text: str, least: float, most: float) -> Key:
    """Returns the key of a range of widths or shapes."""
    return Key("list", [least, most], text, low=1e-3, high=100, length=2)


_BLUR: dict[str, Key] = {
    "kernel_list": Key("list", list(KINDS), "kinds of blur kernels"),
    "kernel_prob": Key(
        "list",
        [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
        "how often each kind",
        low=0,
        high=1,
    ),
    "sinc_prob": Key("float", 0.1, "share of sinc kernels", low=0, high=1),
    "blur_sigma": _range("range of the blur's width, pixels", 0.2, 3.0),
    "betag_range": _range("shape of generalized Gaussians", 0.5, 4.0),
    "betap_range": _range("shape of plateau kernels", 1.0, 2.0),
}
_SECOND = {"blur_sigma": [0.2, 1.5]}  # what differs in the second degradation


def _kernel(options: dict[str, Any], suffix: str) -> np.ndarray:
    """Draws one kernel with `random` and `np.random`, (21, 21), as BasicSR does."""
    from basicsr.data.degradations import (  # noqa: PLC0415 (optional)
        circular_lowpass_kernel,
        random_mixed_kernels,
    )

    size = random.choice(SIZES)
    if np.random.uniform() < options[f"sinc_prob{suffix}"]:
        low = math.pi / 3 if size < 13 else math.pi / 5
        cutoff = np.random.uniform(low, math.pi)
        kernel = circular_lowpass_kernel(cutoff, size, pad_to=0)
    else:
        sigma = options[f"blur_sigma{suffix}"]
        kernel = random_mixed_kernels(
            options[f"kernel_list{suffix}"],
            options[f"kernel_prob{suffix}"],
            size,
            sigma,
            sigma,
            [-math.pi, math.pi],
            options[f"betag_range{suffix}"],
            options[f"betap_range{suffix}"],
            noise_range=None,
        )
    return np.pad(kernel, (KERNEL - size) // 2)


def _final_kernel(options: dict[str, Any]) -> np.ndarray:
    from basicsr.data.degradations import (  # noqa: PLC0415 (optional)
        circular_lowpass_kernel,
    )

    if np.random.uniform() < options["final_sinc_prob"]:
        size = random.choice(SIZES)
        cutoff = np.random.uniform(math.pi / 3, math.pi)
        return circular_lowpass_kernel(cutoff, size, pad_to=KERNEL)
    pulse = np.zeros((KERNEL, KERNEL))
    pulse[KERNEL // 2, KERNEL // 2] = 1
    return pulse


def draw_kernels(
    seed: int, options: dict[str, object]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the kernels of one sample: two blurs and the last sinc, (21, 21) each.

    They follow from `seed`; the process's own generators stay as they were.
    """
    with preserved_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        kernels = _kernel(options, ""), _kernel(options, "2"), _final_kernel(options)
    first, second, last = (torch.from_numpy(k).float() for k in kernels)
    return first, second, last


@DATASET_REGISTRY.register()
class DegradedImageDataset(HRImageDataset):
    """Random HR crops and the kernels that `ParagonGANModel` degrades them with.

    The crop is larger than what is trained on: degradations blur across borders, and
    the model cuts `gt_size` out of their middle part.

    Args:
        opt: The data set's section; see `KEYS`. `scale` and `phase` come from above.

    Raises:
        ValueError: as `HRImageDataset` does.
    """

    KEYS = {  # noqa: RUF012 (read only)
        # It has no LR side to keep: the model makes it.
        **{k: v for k, v in HRImageDataset.KEYS.items() if k != "cache_lq"},
        "crop_size": Key(
            "int", 400, "side of the HR crop that is degraded", low=1, high=2**15
        ),
        "final_sinc_prob": Key(
            "float", 0.8, "share of a last sinc filter", low=0, high=1
        ),
        **_BLUR,
        **{
            f"{name}2": replace(
                key,
                default=_SECOND.get(name, key.default),
                text=f"{key.text}, second degradation",
            )
            for name, key in _BLUR.items()
        },
    }

    least_key = "crop_size"

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt["phase"] != "train":
            raise ValueError(
                "Expected DegradedImageDataset to be a training set, but got it as "
                f"{opt['phase']!r}. Validate with HRImageDataset or PairedImageDataset."
            )
        target, size = opt.get("gt_size") or 0, opt.get("crop_size") or 400
        if size < target:
            raise ValueError(
                f"Expected crop_size to be at least gt_size ({target}), but got {size}."
                " Raise it."
            )
        if size % int(opt["scale"]):
            raise ValueError(
                f"Expected crop_size to be a multiple of scale ({opt['scale']}), but "
                f"got {size}. Take {size // int(opt['scale']) * int(opt['scale'])}."
            )
        # What is cropped here is what gets degraded.
        super().__init__({**opt, "gt_size": size})

    def resized(self, opt: dict[str, object]) -> None:
        """Returns None: crops are larger than what is trained on, so it is rebuilt."""

    def batch(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> Sample:
        """Makes a batch on a device: `gt` crops, and a kernel of each kind per sample.

        There is no `lq`: the model makes it.
        """
        made = super().batch(indices, seeds, device)
        columns = zip(*(draw_kernels(s, self.options) for s in seeds), strict=True)
        names = ("kernel1", "kernel2", "sinc_kernel")
        kernels = zip(names, columns, strict=True)
        made |= {name: torch.stack(list(c)).to(device) for name, c in kernels}
        del made["lq"], made["lq_path"]
        return made
