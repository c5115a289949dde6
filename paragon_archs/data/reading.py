"""Reads images of any usual kind into one layout: (C, H, W), 8 or 16 bit, RGB order."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..config.errors import OptionError
from ..config.meta_info import listed_names
from ..media import paths

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
        with Image.open(file) as opened:
            return opened.height, opened.width
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise _unreadable(file) from error


def read_image(file: Path, channels: int) -> np.ndarray:
    """Decodes an image.

    Args:
        file: An image file.
        channels: 1 (grey by BT.601), 3 (RGB) or 4 (RGB and alpha) to convert to: grey
            is expanded, a missing alpha is opaque, one too many is left out.

    Returns:
        (C, H, W), contiguous, uint8 or, for files of 16 bits, uint16.

    Raises:
        UnreadableImageError: when the file is no whole image.
    """
    try:
        pixels = decode(file.read_bytes())
    except OSError as error:
        raise _unreadable(file) from error
    if pixels is None:
        raise _unreadable(file)
    return to_channels(pixels, channels)


def decode(content: bytes) -> np.ndarray | None:
    """Decodes an image out of its file's bytes.

    OpenCV fills what a cut-off JPEG lacks with grey; Pillow says so. OpenCV in turn
    reads colour PNG and TIFF of 16 bits, which Pillow cuts down to 8.

    Returns:
        (H, W) or (H, W, C), RGB order, uint8 or uint16; None when it is no whole image.
    """
    if content[:2] == b"\xff\xd8":
        return _decode_jpeg(content)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # an empty file
        return None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        return None
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        order = [2, 1, 0, *range(3, pixels.shape[2])]  # OpenCV's order is BGR
        pixels = pixels[..., order]
    return pixels


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            if opened.mode not in ("L", "RGB"):
                return np.asarray(opened.convert("RGB"))
            return np.asarray(opened)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return None


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
            grey = pixels[..., :3].astype(np.float32) @ np.asarray(LUMA, np.float32)
            pixels = np.rint(grey).astype(pixels.dtype)[..., None]
        planes = pixels[..., :1]
    else:
        # Two channels are grey and alpha.
        colour = pixels[..., :3] if have >= 3 else pixels[..., :1].repeat(3, axis=2)
        if channels == 4:
            opaque = np.full_like(colour[..., :1], np.iinfo(pixels.dtype).max)
            alpha = pixels[..., have - 1 :] if have in (2, 4) else opaque
            colour = np.concatenate((colour, alpha), axis=2)
        planes = colour
    return np.ascontiguousarray(planes.transpose(2, 0, 1))
