"""Aligned faces in CelebA's layout: one folder, whole faces, LR made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.key import Key
from ..utils.draws import uniform
from ..utils.registry import DATASET_REGISTRY
from ..utils.resize import imresize
from .hr_dataset import STORE_KEYS, StoredImages
from .pairs import FLIP_X, augment, quantize, to_unit, upload


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blurs images (B, C, H, W) with a Gaussian cut at 3 sigma, borders mirrored."""
    if sigma <= 0:
        return x
    radius = max(1, round(3 * sigma))
    taps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    channels = x.shape[1]
    kernel = kernel.expand(channels, 1, 1, -1)
    x = F.pad(x, [radius] * 4, mode="reflect")
    x = F.conv2d(x, kernel, groups=channels)
    return F.conv2d(x, kernel.transpose(2, 3), groups=channels)


@DATASET_REGISTRY.register()
class FaceImageDataset(StoredImages):
    """Faces of one size, and their blurred and downscaled LR side.

    The largest central square is resized to `face_size`; the LR side is that, blurred
    and downscaled by `scale`, both by MATLAB's bicubic, on the training device.

    Args:
        opt: The data set's section; see `KEYS`. `scale` and `phase` come from above.

    Raises:
        ValueError: as `HRImageDataset` does.
    """

    KEYS = {  # noqa: RUF012 (read only)
        **STORE_KEYS,
        "face_size": Key(
            "int", 512, "side of the HR face in pixels", low=1, high=2**15
        ),
        "blur_sigma": Key(
            "float",
            1.5,
            "width of the blur before downscaling, in HR pixels",
            low=0,
            high=1000,
        ),
    }

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        if self.options["face_size"] % self.scale:
            raise ValueError(
                f"Expected face_size to be a multiple of scale ({self.scale}), but got "
                f"{self.options['face_size']!r}. Use 512 with scale 4."
            )

    def _faces(self, images: list[np.ndarray], device: torch.device) -> Tensor:
        size = self.options["face_size"]
        faces = []
        for image in images:
            height, width = image.shape[1:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            square = image[None, :, top : top + side, left : left + side]
            face = to_unit(upload(np.ascontiguousarray(square), device))
            if side != size:
                face = imresize(face, size=(size, size)).clamp_(0, 1)
            faces.append(face)
        return torch.cat(faces)

    def _downscaled(self, gt: Tensor) -> Tensor:
        lq = gaussian_blur(gt, self.options["blur_sigma"])
        lq = imresize(lq, 1 / self.scale)
        return quantize(lq) if self.options["quantise_lq"] else lq

    def pairs(
        self, images: list[np.ndarray], seeds: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        gt = self._faces(images, device)
        if self.options["use_hflip"]:
            gt = augment(gt, np.where(uniform(seeds, 1)[:, 0] < 0.5, FLIP_X, 0))
        return gt, self._downscaled(gt)

    def whole(self, image: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        gt = self._faces([image], device)
        return gt, self._downscaled(gt)
