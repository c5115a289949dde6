"""Training images as a whole: smaller copies, and LR sides made once."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from ..config.errors import OptionError
from ..config.key import Key
from ..utils.resize import imresize
from .image_store import GB, ImageStore
from .pairs import downscale, quantize, to_unit, upload

WHOLE_KEYS: dict[str, Key] = {
    "cache_lq": Key(
        "bool",
        False,
        "make the LR side of whole images once, not of every crop; in memory",
    ),
    "gt_scales": Key(
        "list",
        None,
        "factors at which every image takes part: `[1.0, 0.6]` adds a copy of 60%",
    ),
    "by_area": Key(
        "bool",
        False,
        "draw each crop's image at random, large ones more often, instead of each "
        "image once an epoch",
    ),
}


class WholeImages:
    """Images of a store at several sizes, and their LR sides.

    Args:
        store: The images.
        scale: Upscaling factor.
        least: Smallest side of a copy; smaller copies are left out.
        factors: At which every image takes part; 1 is the image itself.
        with_lq: Whether to make the LR sides.
        quantized: Whether these are rounded to 8 bits.
        limit_gb: Memory in GiB that all of it may take beside the store.

    Attributes:
        high: HR images (C, H, W) in uint8 or uint16.
        low: Their LR sides (C, h, w) in uint8, float32 where not quantized; empty
            without `with_lq`.
        origins: Which image of the store each one is.

    Raises:
        OptionError: for a factor outside of (0, 1], and when memory does not suffice.
    """

    def __init__(
        self,
        store: ImageStore,
        scale: int,
        least: int,
        factors: Sequence[float],
        with_lq: bool,
        quantized: bool,
        limit_gb: float,
    ) -> None:
        for factor in factors:
            if not (isinstance(factor, (int, float)) and 0 < factor <= 1):
                raise OptionError(
                    "Expected gt_scales to be numbers over 0 and at most 1, but got "
                    f"{factor!r}. Use [1.0, 0.6]."
                )
        self.high: list[np.ndarray] = []
        self.low: list[np.ndarray] = []
        self.origins: list[int] = []
        self.least = least
        taken = 0
        for index in range(len(store)):
            whole = store[index]
            for factor in factors:
                image = whole if factor == 1 else smaller(whole, factor)
                if min(image.shape[1:]) < least:
                    continue
                self.high.append(image)
                self.origins.append(index)
                taken += 0 if factor == 1 else image.nbytes
                if with_lq:
                    self.low.append(low_side(image, scale, quantized))
                    taken += self.low[-1].nbytes
                if taken > limit_gb * GB:
                    raise OptionError(
                        f"Expected cache_lq and gt_scales to fit cache_limit_gb "
                        f"({limit_gb:g}), but {index + 1} of {len(store)} images fill "
                        "it. Raise it, or remove the two."
                    )
        self._areas()

    def _areas(self) -> None:
        areas = np.array([image[0].size for image in self.high], dtype=np.float64)
        self.chances = np.cumsum(areas / areas.sum())

    def __len__(self) -> int:
        return len(self.high)

    def by_area(self, numbers: np.ndarray) -> list[int]:
        """Turns numbers in [0, 1) into images, each as often as it has pixels."""
        chosen = np.searchsorted(self.chances, numbers, side="right")
        return np.minimum(chosen, len(self) - 1).tolist()

    def at_least(self, least: int) -> WholeImages:
        """Returns those whose sides are at least `least`; they share their pixels."""
        if least <= self.least:
            return self
        kept = [i for i, image in enumerate(self.high) if min(image.shape[1:]) >= least]
        other = copy.copy(self)
        other.least = least
        other.high = [self.high[i] for i in kept]
        other.low = [self.low[i] for i in kept] if self.low else []
        other.origins = [self.origins[i] for i in kept]
        other._areas()
        return other


def smaller(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns an image (C, H, W) downscaled by MATLAB's bicubic, in its own type."""
    pixels = to_unit(upload(image[None], torch.device("cpu")))
    resized = imresize(pixels, factor).clamp_(0, 1)[0]
    levels = np.iinfo(image.dtype).max
    return (resized * levels).round_().numpy().astype(image.dtype)


def low_side(image: np.ndarray, scale: int, quantized: bool) -> np.ndarray:
    """Returns the LR side of an image (C, H, W), cut to a multiple of the scale."""
    height, width = (side // scale * scale for side in image.shape[1:])
    cut = np.ascontiguousarray(image[None, :, :height, :width])
    low = downscale(to_unit(upload(cut, torch.device("cpu"))), scale, False)
    if not quantized:
        return low[0].numpy()
    return (quantize(low)[0] * 255).round_().numpy().astype(np.uint8)
