"""Files that the host's data sets read: all of their bits, and whole or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from basicsr.data import (
    ffhq_dataset,
    paired_image_dataset,
    realesrgan_dataset,
    realesrgan_paired_dataset,
    single_image_dataset,
)
from basicsr.utils import img_util

from ..data.reading import decode, to_channels

_host = img_util.imfrombytes

MODULES: tuple[Any, ...] = (
    ffhq_dataset,
    paired_image_dataset,
    realesrgan_dataset,
    realesrgan_paired_dataset,
    single_image_dataset,
)


def imfrombytes(content: bytes, flag: str = "color", float32: bool = False) -> Any:
    """Reads an image as the host does, but 16 bits as 16, and no cut-off JPEG.

    Args:
        content: A file's bytes.
        flag: `color`; what else the host knows is the host's.
        float32: Whether to scale to [0, 1]; without it the host wants its own 8 bits.

    Returns:
        (H, W, 3) in BGR; grey is expanded, alpha left out.

    Raises:
        ValueError: when it is no whole image. Whoever knows the file adds its name.
    """
    if flag != "color" or not float32:
        return _host(content, flag, float32)
    pixels = decode(content)
    if pixels is None:
        raise ValueError("it is cut off, or no image.")
    planes = to_channels(pixels, 3)
    white = np.float32(np.iinfo(planes.dtype).max)
    return np.ascontiguousarray(planes[::-1].transpose(1, 2, 0)).astype("f4") / white


def install() -> None:
    """Puts the reader in place of the host's in its data sets of images."""
    for module in MODULES:
        module.imfrombytes = imfrombytes
