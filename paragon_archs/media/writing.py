"""Image files out: pixels in the layout of a format, metadata that fits it.

PNG, TIFF and PPM are written row by row where the result is large.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ..utils.files import atomic_write, printable
from ..utils.optional import need
from . import jpeg_segments, png
from .arrays import max_value, rounded
from .color import srgb, to_srgb
from .metadata import HOLDS, LOSSLESS_AVIF, fit
from .paths import Format, check_format
from .picture import Metadata, Picture, WriteOptions
from .tiff import write_tiff

logger = logging.getLogger(__name__)

BY_ROWS = ("PNG", "TIFF", "PPM")  # formats that `write_rows` writes

_NO_EXIF = "EXIF, in a file over 4 GB"


def check_output(
    picture: Picture,
    path: str | Path,
    options: WriteOptions | None = None,
    size: tuple[int, int] | None = None,
) -> Format:
    """Finds out before any work whether a result can be written.

    Args:
        picture: The picture, or the one that it is made of.
        path: Where to; the extension chooses the format.
        options: How it is written.
        size: Width and height of the result, by default the picture's.

    Returns:
        The format.

    Raises:
        ValueError: for an unknown extension, or a format that cannot hold the depth,
            the transparency or the size.
    """
    size = size or picture.size
    return check_kind(path, size, options, lambda: not _is_opaque(picture))


def check_kind(
    path: str | Path,
    size: tuple[int, int],
    options: WriteOptions | None = None,
    clear: Callable[[], bool] = bool,
) -> Format:
    """As `check_output`, of a result that is not there yet.

    Args:
        path: Where to; the extension chooses the format.
        size: Width and height.
        options: How it is written.
        clear: Whether there are clear pixels; asked where the format holds none.
    """
    options = options or WriteOptions()
    file = Path(path)
    kind = check_format(file.suffix)
    if options.depth == 16 and not kind.deep:
        raise ValueError(
            f"Expected a format that holds 16 bits (PNG, TIFF, PPM), but got "
            f"{kind.name}. Choose another --format or --depth 8."
        )
    width, height = size
    if max(width, height) > kind.side:
        raise ValueError(
            f"Expected at most {kind.side} pixels a side in {kind.name}, but got "
            f"{width} x {height} for {printable(file)!r}. Choose PNG or TIFF."
        )
    if not kind.alpha and clear():
        raise ValueError(
            f"Expected a format that holds transparency, but got {kind.name} for "
            f"{printable(file)!r}. Choose PNG, WebP, TIFF or AVIF."
        )
    return kind


def _is_opaque(picture: Picture) -> bool:
    if picture.alpha is None:
        return True
    return bool((picture.alpha == max_value(picture.alpha.dtype)).all())


def write_picture(
    picture: Picture, path: str | Path, options: WriteOptions | None = None
) -> None:
    """Writes an image file, whole or not at all; the extension chooses the format.

    What the format does not hold is logged, in one line.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: as `check_output`'s, and when the encoder refuses.
    """
    options = options or WriteOptions()
    file = Path(path)
    layout = Layout(picture, file, options)
    array = layout.laid_out(picture.pixels, picture.alpha)
    with atomic_write(file) as temporary:
        _encode(array, temporary, layout, options)
    layout.say_what_is_lost()


def write_rows(
    picture: Picture,
    bands: Iterable[tuple[np.ndarray, np.ndarray | None]],
    path: str | Path,
    options: WriteOptions | None = None,
) -> None:
    """Writes an image file of `BY_ROWS` without holding it in memory.

    Args:
        picture: Of the result's size and metadata; its pixels are not looked at.
        bands: Rows of pixels and of alpha, from the top down.
        path: Where to; the extension chooses the format.
        options: How it is written.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: as `check_output`'s.
    """
    options = options or WriteOptions()
    file = Path(path)
    layout = Layout(picture, file, options)
    arrays = (np.ascontiguousarray(layout.laid_out(*band)) for band in bands)
    about, level = layout.about, options.compression
    with atomic_write(file) as temporary:
        if layout.name == "TIFF":
            if not write_tiff(arrays, picture.size, temporary, about):
                layout.lost.append(_NO_EXIF)
        else:
            parts = _ppm(arrays, picture.size)
            if layout.name == "PNG":
                parts = png.encoded(arrays, picture.size, about, level)
            with temporary.open("wb") as out:
                out.writelines(parts)
    layout.say_what_is_lost()


class Layout:
    """How a picture stands in a file: its depth, channels, metadata.

    Args:
        picture: The picture as it is written.
        file: Where to.
        options: How it is written.
    """

    def __init__(self, picture: Picture, file: Path, options: WriteOptions) -> None:
        kind = check_output(picture, file, options)
        self.file, self.name = file, kind.name
        self.depth = options.depth or (picture.bits if kind.deep else 8)
        exact = kind.name == "AVIF" and options.lossless
        colors = picture.pixels.shape[2]
        self.gray = colors == 1 and kind.name not in ("WEBP", "AVIF", "GIF")
        self.alpha = kind.alpha
        holds = LOSSLESS_AVIF if exact else HOLDS[kind.name]
        self.about, convert, self.lost = fit(picture, holds, 1 if self.gray else 3)
        self.convert: bytes | None = None  # the profile that pixels are converted from
        if convert and self.about.icc:
            self.convert = self.about.icc
            self.about.icc = srgb() if "icc" in holds else None

    def laid_out(self, pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        """Returns rows as the file holds them, (H, W, C)."""
        array = to_depth(pixels, self.depth)
        if self.convert:
            try:
                array = to_srgb(to_depth(array, 8), self.convert)
            except ValueError as error:
                self.lost.append(str(error))
                self.convert = None
        if array.shape[2] == 1 and not self.gray:
            array = array.repeat(3, axis=2)
        if alpha is not None and self.alpha:
            alpha = to_depth(alpha, 8 * array.dtype.itemsize)
            array = np.concatenate([array, alpha[..., None]], axis=2)
        return array

    def say_what_is_lost(self) -> None:
        """Logs in one line what the file does not hold."""
        if self.lost:
            lost = "; ".join(self.lost)
            logger.warning("%s: left out: %s", printable(self.file), lost)


def to_depth(array: np.ndarray, depth: int) -> np.ndarray:
    """Returns values as `depth` bits; full white stays full white.

    Args:
        array: uint8, uint16, or floats in [0, 1], which are rounded once.
        depth: 8 or 16.
    """
    if np.issubdtype(array.dtype, np.floating):
        return rounded(array, np.dtype(np.uint8 if depth == 8 else np.uint16))
    if array.dtype.itemsize * 8 == depth:
        return array
    if depth == 16:
        return array.astype(np.uint16) * np.uint16(257)
    return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _encode(
    array: np.ndarray, file: Path, layout: Layout, options: WriteOptions
) -> None:
    array = np.ascontiguousarray(array)
    name, about = layout.name, layout.about
    size = (array.shape[1], array.shape[0])
    if name == "TIFF":
        if not write_tiff(iter([array]), size, file, about):
            layout.lost.append(_NO_EXIF)
        return
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    parts: Iterator[bytes]
    if name == "PNG" and options.compression is None:
        # libdeflate: half the time of zlib's quickest way, and smaller files.
        pack = functools.partial(codecs.deflate_encode, level=1, raw=False)
        parts = png.encoded(iter([array]), size, about, None, pack)
    elif name == "PNG":
        flat = array[..., 0] if array.shape[2] == 1 else array
        packed = codecs.png_encode(flat, level=options.compression)
        parts = png.join(packed, about)
    elif name == "PPM":
        parts = _ppm(iter([array]), size)
    elif name == "AVIF" and options.lossless:
        # RGB as it is (the identity matrix), which Pillow's encoder cannot keep.
        parts = iter([codecs.avif_encode(array, 100, pixelformat="444", matrix=0)])
    else:
        parts = _encode_with_pillow(array, name, about, options)
    with file.open("wb") as out:
        out.writelines(parts)


def _ppm(arrays: Iterator[np.ndarray], size: tuple[int, int]) -> Iterator[bytes]:
    for index, array in enumerate(arrays):
        if not index:
            kind = 5 if array.shape[2] == 1 else 6
            most = np.iinfo(array.dtype).max
            yield f"P{kind}\n{size[0]} {size[1]}\n{most}\n".encode()
        yield array.astype(array.dtype.newbyteorder(">")).tobytes()


def _encode_with_pillow(
    array: np.ndarray, name: str, about: Metadata, options: WriteOptions
) -> Iterator[bytes]:
    module = need("PIL.Image", "reading and writing images", "pillow")
    image = module.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    extra: dict[str, object] = {}
    if name in ("WEBP", "AVIF"):
        chunks = {"exif": about.exif, "icc_profile": about.icc, "xmp": about.xmp}
        extra = {key: value for key, value in chunks.items() if value}
        extra["quality"] = options.quality
        extra |= (
            {"lossless": options.lossless}
            if name == "WEBP"
            else {"subsampling": "4:4:4"}
        )
    elif name == "JPEG":
        extra = {"quality": options.quality, "subsampling": 0}
    elif name == "GIF" and about.text:
        extra["comment"] = about.text[0][1].encode()
    if about.dpi and name in ("JPEG", "BMP"):
        extra["dpi"] = about.dpi
    buffer = io.BytesIO()
    image.save(buffer, name, **extra)
    if name == "JPEG":
        return jpeg_segments.join(buffer.getvalue(), about)
    return iter([buffer.getvalue()])
