"""Pairs whose low-resolution side is what people have: JPEG, slight blur, noise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.errors import OptionError
from ..config.key import Key
from ..utils.draws import uniform
from ..utils.registry import DATASET_REGISTRY
from .hr_dataset import HRImageDataset, Sample, one_thread
from .light_degradation import MCU, LightDegradation

SALT = 0x5851F42D4C957F2D
RANGES = {"jpeg_quality": (1, 100), "blur_sigma": (0, 2), "noise": (0, 255)}


@DATASET_REGISTRY.register()
class RestorationImageDataset(HRImageDataset):
    """Random HR crops; their bicubic LR side is blurred, noisy and saved as JPEG.

    Larger crops are degraded and cut, so that JPEG's blocks lie anywhere. Images of
    validation are degraded whole, the same at every time.

    Args:
        opt: The data set's section; see `KEYS`. `scale` and `phase` come from above.

    Raises:
        ValueError: as `HRImageDataset` does, and for ranges that are none.
    """

    KEYS = {  # noqa: RUF012 (read only)
        **HRImageDataset.KEYS,
        "jpeg_quality": Key("list", [40, 95], "range of the JPEG quality"),
        "jpeg_prob": Key("float", 0.9, "share of samples saved as JPEG", low=0, high=1),
        "full_chroma_prob": Key(
            "float",
            0.2,
            "share of the JPEGs with 4:4:4 chroma, not 4:2:0",
            low=0,
            high=1,
        ),
        "blur_sigma": Key("list", [0.2, 0.6], "range of the blur's width, LR pixels"),
        "blur_prob": Key(
            "float", 0.2, "share of samples that are blurred", low=0, high=1
        ),
        "noise": Key("list", [0, 4], "range of the noise's deviation, of 255"),
        "noise_prob": Key("float", 0.2, "share of samples with noise", low=0, high=1),
    }
    CROPS = ("gt_size", *(k for k in KEYS if k not in HRImageDataset.KEYS))

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt.get("channels", 3) != 3:
            raise OptionError(
                f"Expected channels to be 3 for JPEG, but got {opt['channels']!r}. "
                "Remove channels, or use HRImageDataset."
            )
        super().__init__(opt)
        self.degrade = self._degradation()

    def _degradation(self) -> LightDegradation:
        for name, (low, high) in RANGES.items():
            value = self.options[name]
            numbers = [isinstance(v, (int, float)) for v in value]
            if numbers != [True, True] or not low <= value[0] <= value[1] <= high:
                raise OptionError(
                    f"Expected {name} to be two rising numbers from {low} to {high}, "
                    f"but got {value!r}. Correct it."
                )
        own = {k: self.options[k] for k in LightDegradation.__dataclass_fields__}
        return LightDegradation(**own)

    def _check_crop(self, opt: dict[str, Any]) -> int:
        """Returns the side of the crop that is degraded: whole blocks, one to spare."""
        low = super()._check_crop(opt) // int(opt["scale"])
        return (low + 2 * MCU - 2) // MCU * MCU * int(opt["scale"])

    def resized(self, opt: dict[str, object]) -> HRImageDataset | None:
        """Returns a set of the same images with other crops or degradations."""
        other = super().resized(opt)
        if isinstance(other, RestorationImageDataset):
            other.degrade = other._degradation()
        return other

    def batch(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> Sample:
        """Makes a batch as `HRImageDataset` does, its LR side degraded."""
        made = super().batch(indices, seeds, device)
        scale = self.scale
        side = self.opt["gt_size"] // scale
        with one_thread() if device.type == "cpu" else contextlib.nullcontext():
            # Numbers that the crop has nothing to do with.
            own = [seed ^ SALT for seed in seeds]
            lq = self.degrade(made["lq"], own)
            starts = (uniform(own, 9)[:, 7:] * MCU).astype(int)
            made["lq"] = _cut(lq, starts, side)
            made["gt"] = _cut(made["gt"], starts * scale, side * scale)
        return made

    def __getitem__(self, index: int) -> Sample:
        """Makes one sample on the CPU: a random one in training, else a whole image."""
        made = super().__getitem__(index)
        if not self.training:
            made["lq"] = self.degrade(made["lq"][None], [index])[0]
        return made


def _cut(x: Tensor, starts: np.ndarray, side: int) -> Tensor:
    """Cuts a square out of each image (B, C, H, W), from (row, column) on."""
    parts = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(x, starts.tolist(), strict=True)
    ]
    return torch.stack(parts)
