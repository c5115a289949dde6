"""Reads images of any usual kind into one layout: (C, H, W), 8 or 16 bit, RGB order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..config.errors import OptionError
from ..config.meta_info import listed_names
from ..media import paths
from ..media.images import read_pixels, read_size

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class UnreadableImageError(OptionError):
    """A file that is no whole image; the message names it."""


def find_images(folder: str | Path) -> list[Path]:
    """Lists the images under a folder; see `media.paths.find_images`.

    Raises:
        OptionError: when the folder does not exist or holds no image.
    """
    try:
        return paths.find_images(folder)
    except FileNotFoundError as error:
        raise OptionError(f"dataroot_gt: {error}") from error


def listed_images(folder: str | Path, meta_info: str | Path) -> list[Path]:
    """Lists the images that a meta-info file names, one a line, relative to `folder`.

    A shape behind a name (BasicSR's `(h,w,c)`) and empty lines are passed over.
    """
    return [Path(folder) / name for name in listed_names(meta_info)]


def image_size(file: Path) -> tuple[int, int]:
    """Returns (height, width) from the file's header.

    Raises:
        UnreadableImageError: when it has none.
    """
    try:
        width, height = read_size(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file) from error
    return height, width


def read_image(file: Path, channels: int) -> np.ndarray:
    """Decodes an image, upright.

    Args:
        file: An image file.
        channels: 1 (gray by BT.601), 3 (RGB) or 4 (RGB and alpha) to convert to: gray
            is expanded, a missing alpha is opaque, one too many is left out.

    Returns:
        (C, H, W), contiguous, uint8 or, for files of more bits, uint16.

    Raises:
        UnreadableImageError: when the file is no whole image.
    """
    try:
        return to_channels(read_pixels(file), channels)
    except (OSError, ValueError) as error:
        raise _unreadable(file) from error


def _unreadable(file: Path) -> UnreadableImageError:
    return UnreadableImageError(
        f"Expected an image, but got {str(file)!r}, which cannot be read. Remove or "
        "replace it, or set on_bad_image: skip."
    )


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Turns (H, W) or (H, W, C) into contiguous (`channels`, H, W)."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    have = pixels.shape[2]
    if channels == 1:
        if have >= 3:
            gray = pixels[..., :3].astype(np.float32) @ np.asarray(LUMA, np.float32)
            pixels = np.rint(gray).astype(pixels.dtype)[..., None]
        planes = pixels[..., :1]
    else:
        # Two channels are gray and alpha.
        color = pixels[..., :3] if have >= 3 else pixels[..., :1].repeat(3, axis=2)
        if channels == 4:
            opaque = np.full_like(color[..., :1], np.iinfo(pixels.dtype).max)
            alpha = pixels[..., have - 1 :] if have in (2, 4) else opaque
            color = np.concatenate((color, alpha), axis=2)
        planes = color
    return np.ascontiguousarray(planes.transpose(2, 0, 1))
