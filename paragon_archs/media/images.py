"""Image files in: pixels at their own bit depth, and what travels with them.

imagecodecs reads PNG, tifffile TIFF, Pillow the others,
but where those have more than 8 bits a value (`deep`).
PNG and JPEG files are taken apart first: what damages metadata cannot cost the pixels.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..utils.files import printable
from ..utils.optional import need
from . import jpeg_segments, png
from .color import image_to_srgb, srgb
from .deep import coded_color, deep_pixels
from .exif import ExifError
from .metadata import fit_profile, upright
from .opening import (
    JPEG_SIGNATURE,
    TIFF_SIGNATURES,
    check_size,
    content_of,
    guarded,
    open_image,
    read_size,
)
from .picture import Metadata, Picture, WriteOptions
from .tiff import OtherTiffError, read_metadata, read_tiff
from .writing import check_output, to_depth, write_picture

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Picture", "WriteOptions", "check_output", "read_picture", "read_pixels"]
__all__ += ["read_size", "to_depth", "write_picture"]

logger = logging.getLogger(__name__)

DEFAULT_MOST = 2**33  # bytes of pixels that a file may claim where nobody states more


def read_picture(path: str | Path, most: int = DEFAULT_MOST) -> Picture:
    """Reads an image file.

    The EXIF orientation is applied. Palettes become RGB, CMYK becomes RGB through its
    profile, 10, 12 and 32-bit floating values become 16 bits, and of an animation the
    first frame is read. What has to be left out is logged, in one line.

    Args:
        path: The file.
        most: Bytes that its pixels may take.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not an image, is cut short, holds values of other kinds,
            or more pixels than `most`.
        ImportError: when a package is missing.
    """
    file = Path(path)
    notes: list[str] = []
    data = content_of(file)
    pixels, about, name = guarded(file, lambda: _read(data, most, notes))
    orientation = upright(about, notes)
    array = _upright(pixels, orientation)
    colors = 3 if array.shape[2] >= 3 else 1
    fit_profile(about, colors, notes)
    if notes:
        logger.warning("%s: left out: %s", printable(file), "; ".join(notes))
    return Picture(
        pixels=np.ascontiguousarray(array[..., :colors]),
        alpha=None
        if array.shape[2] == colors
        else np.ascontiguousarray(array[..., colors]),
        format=name,
        **vars(about),
    )


def read_pixels(source: str | Path | bytes, most: int = DEFAULT_MOST) -> np.ndarray:
    """Reads pixels alone: (H, W, 1 to 4), uint8 or uint16, upright; alpha is last.

    Args:
        source: A file, or a file's bytes.
        most: Bytes that the pixels may take.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: as `read_picture`'s.
    """
    held = isinstance(source, bytes)
    file = Path("image" if held else source)
    data = source if held else content_of(file)
    notes: list[str] = []
    pixels, about, _ = guarded(file, lambda: _read(data, most, notes))
    return np.ascontiguousarray(_upright(pixels, upright(about, notes)))


def _read(data: bytes, most: int, notes: list[str]) -> tuple[np.ndarray, Metadata, str]:
    """Returns pixels as they are stored, metadata and Pillow's name of the format."""
    if data.startswith(png.SIGNATURE):
        pixels, about = png.split(data, notes)
        array = _decode_png(pixels, most)
        name = "PNG"
    elif data.startswith(JPEG_SIGNATURE):
        array, about = _read_jpeg(data, most, notes)
        name = "JPEG"
    elif data[:4] in TIFF_SIGNATURES:
        array, about = _read_tiff(data, most, notes)
        name = "TIFF"
    else:
        image = open_image(io.BytesIO(data))
        array, about = _from_pillow(image, data, most, notes)
        name = str(image.format)
    return array, about, name


def _decode_png(data: bytes, most: int) -> np.ndarray:
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    if not png.is_plausible(data):
        raise ValueError("it is cut off")
    check_size(*png.size_of(data), most)
    array = codecs.png_decode(data)
    return array.reshape(*array.shape[:2], -1)


def _read_jpeg(data: bytes, most: int, notes: list[str]) -> tuple[np.ndarray, Metadata]:
    pixels, lacking, about = jpeg_segments.split(data, notes)
    array, profile = _jpeg_pixels(pixels + lacking, about.icc, most, notes)
    if lacking:
        # A decoder fills up what a cut-off scan lacks with what follows it.
        other, _ = _jpeg_pixels(pixels + b"\x55" * 64 + lacking, about.icc, most, [])
        if not np.array_equal(array, other):
            raise ValueError("it is cut off")
        notes.append("the end marker, which the file lacks")
    about.icc = profile
    return array, about


def _jpeg_pixels(
    data: bytes, icc: bytes | None, most: int, notes: list[str]
) -> tuple[np.ndarray, bytes | None]:
    plugin = need("PIL.JpegImagePlugin", "JPEG images", "pillow")
    image = plugin.JpegImageFile(io.BytesIO(data))
    check_size(image.size, len(image.mode), most)
    image.load()
    plain, icc = _to_plain_mode(image, icc, notes)
    return _as_array(plain), icc


def _read_tiff(data: bytes, most: int, notes: list[str]) -> tuple[np.ndarray, Metadata]:
    about, more = Metadata(), False
    try:
        about, more = read_metadata(data)
    except ExifError as error:
        notes.append(f"its tags ({error})")
    if more:
        notes.append("further pages; the first is read")
    try:
        return read_tiff(io.BytesIO(data), most, notes), about
    except OtherTiffError:  # Pillow knows CMYK and Lab
        plugin = need("PIL.TiffImagePlugin", "TIFF images", "pillow")
        image = plugin.TiffImageFile(io.BytesIO(data))
        check_size(image.size, 4, most)
        # Turned here, like every other file's.
        image.getexif().pop(0x0112, None)
        image.load()
        plain, about.icc = _to_plain_mode(image, about.icc, notes)
        return _as_array(plain), about


def _from_pillow(
    image: Image.Image, data: bytes, most: int, notes: list[str]
) -> tuple[np.ndarray, Metadata]:
    check_size(image.size, len(image.getbands()), most)
    if getattr(image, "n_frames", 1) > 1:
        notes.append("all frames but the first")
    info = image.info
    dpi, xmp = info.get("dpi"), info.get("xmp")
    comment = info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "replace")
    about = Metadata(
        exif=info.get("exif") or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        text=(("Comment", comment),) if comment else (),
    )
    icc = info.get("icc_profile") or None
    if image.format in ("AVIF", "HEIF") and not icc:
        about.color = coded_color(data)
    deep = deep_pixels(image, data)
    if deep is not None:
        about.icc = icc
        return deep, about
    image.load()
    plain, about.icc = _to_plain_mode(image, icc, notes)
    return _as_array(plain), about


def _as_array(image: Image.Image) -> np.ndarray:
    """Returns (H, W, C) of an image in a plain mode."""
    array = np.array(image)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.int32:  # mode I: PPM's gray of more than 8 bits
        if array.min() < 0 or array.max() > 65535:
            raise ValueError("it holds 32 bits a value")
        array = array.astype(np.uint16)
    elif array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"it holds values of type {array.dtype}")
    return array.reshape(*array.shape[:2], -1)


def _to_plain_mode(
    image: Image.Image, icc: bytes | None, notes: list[str]
) -> tuple[Image.Image, bytes | None]:
    """Returns the image as gray, gray and alpha, RGB or RGBA, and its profile."""
    mode = image.mode
    if mode in ("1", "L", "LA", "RGB", "RGBA", "F") or mode.startswith("I"):
        if "transparency" in image.info and mode in ("1", "L", "RGB"):
            return image.convert("LA" if mode != "RGB" else "RGBA"), icc
        return image, icc
    if mode in ("CMYK", "LAB") and icc:
        try:
            return image_to_srgb(image, icc), srgb()
        except ValueError as error:
            notes.append(str(error))
    clear = "transparency" in image.info or mode in ("PA", "RGBa", "La")
    keeps = mode in ("P", "PA", "RGBX", "YCbCr")
    return image.convert("RGBA" if clear else "RGB"), icc if keeps else None


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Applies EXIF orientation 1 to 8 to (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
