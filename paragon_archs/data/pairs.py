"""Training pairs in batches on a device: crop, flip, turn, downscale, quantize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..utils.resize import imresize
from ..utils.symmetry import transform

FLIP_X, FLIP_Y, TRANSPOSE = 1, 2, 4
"""Bits of an augmentation's code, as `transform` reads them with axes (-1, -2)."""


def augmentation_codes(
    numbers: np.ndarray, use_hflip: bool, use_rot: bool
) -> np.ndarray:
    """Turns numbers in [0, 1), (B, 3), into codes (B).

    As in BasicSR, `use_hflip` flips left and right, `use_rot` flips up and down and
    transposes, which together makes the turns; each with probability one half.
    """
    bits = (numbers < 0.5).astype(np.int64)
    allowed = np.asarray([use_hflip, use_rot, use_rot], np.int64)
    return (bits * allowed) @ np.asarray([FLIP_X, FLIP_Y, TRANSPOSE])


def augment(x: Tensor, codes: np.ndarray) -> Tensor:
    """Flips and transposes each of the square images (B, C, S, S) by its code."""
    # Sorted by code, equal ones lie together and are turned at once.
    order = np.argsort(codes, kind="stable")
    kinds, counts = np.unique(codes, return_counts=True)
    groups = x.index_select(0, upload(order, x.device))
    turned = []
    for code, part in zip(kinds, groups.split(counts.tolist()), strict=True):
        turned.append(transform(part, int(code), axes=(-1, -2)))
    back = upload(np.argsort(order), x.device)
    return torch.cat(turned).index_select(0, back)


def stack_crops(
    images: Sequence[np.ndarray], tops: np.ndarray, lefts: np.ndarray, size: int
) -> np.ndarray:
    """Copies square crops out of images (C, H, W) into one array (B, C, S, S).

    The result has the images' type; 8 and 16 bits together give float32 in [0, 1].
    """
    kinds = {image.dtype for image in images}
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
    crops = np.empty((len(images), images[0].shape[0], size, size), kind)
    for crop, image, top, left in zip(crops, images, tops, lefts, strict=True):
        part = image[:, top : top + size, left : left + size]
        if kind == np.float32 and image.dtype != np.float32:
            crop[...] = part / np.float32(np.iinfo(image.dtype).max)
        else:
            crop[...] = part
    return crops


def upload(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Moves pixels to a device as they are; 16 bits travel as int32.

    Few devices compute with 16 bits without sign.
    """
    wide = pixels.astype(np.int32) if pixels.dtype == np.uint16 else pixels
    moved = torch.from_numpy(wide)
    if device.type == "cuda":
        return moved.pin_memory().to(device, non_blocking=True)
    return moved.to(device)


def to_unit(pixels: Tensor) -> Tensor:
    """Turns uploaded pixels into float32 in [0, 1]."""
    if pixels.dtype == torch.float32:
        return pixels
    max_value = 255.0 if pixels.dtype == torch.uint8 else 65535.0
    return pixels.to(torch.float32).div_(max_value)


def quantize(x: Tensor) -> Tensor:
    """Rounds to what a file of 8 bits would hold, in place."""
    return x.mul_(255).round_().clamp_(0, 255).div_(255)


def downscale(gt: Tensor, scale: int, quantized: bool) -> Tensor:
    """Makes the low-resolution side of images (B, C, H, W): MATLAB's bicubic."""
    lq = imresize(gt, 1 / scale)
    return quantize(lq) if quantized else lq
