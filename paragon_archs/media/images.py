"""Image files in and out: pixels at their own bit depth, and what travels with them.

imagecodecs reads and writes PNG and lossless AVIF, tifffile TIFF, Pillow the others,
but where those have more than 8 bits a value (`deep`).
PNG and JPEG files are taken apart first: what damages metadata cannot cost the pixels.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.files import atomic_write
from ..utils.optional import need
from . import jpeg_segments, png
from .arrays import rounded, white
from .color import image_to_srgb, srgb, to_srgb
from .deep import coded_color, deep_pixels
from .exif import ExifError
from .metadata import HOLDS, LOSSLESS_AVIF, fit, fit_profile, upright
from .paths import PLUGINS, UNSUPPORTED, Format, check_format
from .picture import Metadata, Picture, WriteOptions
from .tiff import OtherTiffError, read_metadata, read_tiff, write_tiff

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Picture", "WriteOptions", "check_output", "read_picture", "read_pixels"]
__all__ += ["read_size", "to_depth", "write_picture"]

logger = logging.getLogger(__name__)

DEFAULT_MOST = 2**33  # bytes of pixels that a file may claim where nobody states more

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What Pillow reads here, in the order of its looks; TGA has no signature.
_BY_PILLOW = ("WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "ICO", "PCX")
_BY_PILLOW += ("SGI", "HEIF", "JXL", "TGA")
_OPENCV_FASTEST = {"level": 1, "strategy": 3, "filter": 16}  # as its encoder sets them


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
    data = _content(file)
    pixels, about, name = _guarded(file, lambda: _read(data, most, notes))
    orientation = upright(about, notes)
    array = _upright(pixels, orientation)
    colors = 3 if array.shape[2] >= 3 else 1
    fit_profile(about, colors, notes)
    if notes:
        logger.warning("%s: left out: %s", _printable(file), "; ".join(notes))
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
    data = source if held else _content(file)
    notes: list[str] = []
    pixels, about, _ = _guarded(file, lambda: _read(data, most, notes))
    return np.ascontiguousarray(_upright(pixels, upright(about, notes)))


def read_size(path: str | Path) -> tuple[int, int]:
    """Returns width and height out of a file's header, as they are stored.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not an image.
    """
    file = Path(path)
    image = need("PIL.Image", "reading image headers", "pillow")

    def look() -> tuple[int, int]:
        with file.open("rb") as content, image.open(content) as opened:
            return opened.size

    return _guarded(file, look)


def _content(file: Path) -> bytes:
    if not file.exists():
        raise FileNotFoundError(
            f"Expected an image, but there is no file {str(file)!r}. Check the path."
        )
    suffix = file.suffix.lower()
    if not file.is_file() or suffix in UNSUPPORTED:
        raise ValueError(
            f"Expected an image of pixels, but got {_printable(file)!r}. Convert it to "
            "PNG or TIFF first."
        )
    if suffix in PLUGINS:
        plugin = need(
            PLUGINS[suffix].replace("-", "_"), f"{suffix[1:]} images", PLUGINS[suffix]
        )
        if register := getattr(plugin, "register_heif_opener", None):
            register()
    return file.read_bytes()


def _guarded(file: Path, decode: Any) -> Any:
    """Runs a decoder, whose errors of any kind become one sentence."""
    try:
        return decode()
    except MemoryError as error:
        size = f"{error.args[0] / 2**30:.1f} GB" if error.args else "more"
        raise ValueError(
            f"Expected {_printable(file)!r} to fit into memory, but its pixels take "
            f"{size}. Allow more with --memory, or cut it into parts."
        ) from error
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(
            f"Expected {_printable(file)!r} to be a whole image, but it cannot be read "
            f"({error or type(error).__name__}). Leave it out or replace it."
        ) from error


def _printable(file: Path) -> str:
    """Returns a name that any console can print."""
    return str(file).encode("utf-8", "backslashreplace").decode()


def _read(data: bytes, most: int, notes: list[str]) -> tuple[np.ndarray, Metadata, str]:
    """Returns pixels as they are stored, metadata and Pillow's name of the format."""
    if data.startswith(png.SIGNATURE):
        pixels, about = png.split(data, notes)
        array = _decode_png(pixels, most)
        name = "PNG"
    elif data.startswith(b"\xff\xd8"):
        array, about = _read_jpeg(data, most, notes)
        name = "JPEG"
    elif data[:4] in _TIFF:
        array, about = _read_tiff(data, most, notes)
        name = "TIFF"
    else:
        image = _open(data)
        array, about = _from_pillow(image, data, most, notes)
        name = str(image.format)
    return array, about, name


def _decode_png(data: bytes, most: int) -> np.ndarray:
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    if not png.is_plausible(data):
        raise ValueError("it is cut off")
    _check_size(*png.size_of(data), most)
    array = codecs.png_decode(data)
    return array.reshape(*array.shape[:2], -1)


def _check_size(size: tuple[int, int], each: int, most: int) -> None:
    if size[0] * size[1] * each > most:
        raise MemoryError(size[0] * size[1] * each)


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
    _check_size(image.size, len(image.mode), most)
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
        _check_size(image.size, 4, most)
        # Turned here, like every other file's.
        image.getexif().pop(0x0112, None)
        image.load()
        plain, about.icc = _to_plain_mode(image, about.icc, notes)
        return _as_array(plain), about


def _open(data: bytes) -> Image.Image:
    """Opens a file by its signature, without Pillow's limit: ours follows `most`."""
    module = need("PIL.Image", "reading and writing images", "pillow")
    module.init()
    for name in _BY_PILLOW:
        factory, accept = module.OPEN.get(name, (None, None))
        if factory is None or (accept and accept(data[:16]) is not True):
            continue
        try:
            return factory(io.BytesIO(data))
        except (SyntaxError, IndexError, TypeError, KeyError):
            continue  # as Pillow's own loop does
    raise ValueError("it is of no known format")


def _from_pillow(
    image: Image.Image, data: bytes, most: int, notes: list[str]
) -> tuple[np.ndarray, Metadata]:
    _check_size(image.size, len(image.getbands()), most)
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
    options = options or WriteOptions()
    file = Path(path)
    kind = check_format(file.suffix)
    if options.depth == 16 and not kind.deep:
        raise ValueError(
            f"Expected a format that holds 16 bits (PNG, TIFF), but got {kind.name}. "
            "Choose another --format or --depth 8."
        )
    if not kind.alpha and not _is_opaque(picture):
        raise ValueError(
            f"Expected a format that holds transparency, but got {kind.name} for "
            f"{_printable(file)!r}. Choose PNG, WebP, TIFF or AVIF."
        )
    width, height = size or picture.size
    if max(width, height) > kind.side:
        raise ValueError(
            f"Expected at most {kind.side} pixels a side in {kind.name}, but got "
            f"{width} x {height} for {_printable(file)!r}. Choose PNG or TIFF."
        )
    return kind


def _is_opaque(picture: Picture) -> bool:
    if picture.alpha is None:
        return True
    return bool((picture.alpha == white(picture.alpha.dtype)).all())


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
    kind = check_output(picture, file, options)
    depth = options.depth or (picture.bits if kind.deep else 8)
    array = to_depth(picture.pixels, depth)
    exact = kind.name == "AVIF" and options.lossless
    gray = array.shape[2] == 1 and kind.name not in ("WEBP", "AVIF", "GIF")
    holds = LOSSLESS_AVIF if exact else HOLDS[kind.name]
    about, convert, lost = fit(picture, holds, 1 if gray else 3)
    if convert and about.icc:
        try:
            array = to_srgb(to_depth(array, 8), about.icc)
        except ValueError as error:
            lost.append(str(error))
        about.icc = srgb() if "icc" in holds else None
    if array.shape[2] == 1 and not gray:
        array = array.repeat(3, axis=2)
    if picture.alpha is not None and kind.alpha:
        alpha = to_depth(picture.alpha, 8 * array.dtype.itemsize)
        array = np.concatenate([array, alpha[..., None]], axis=2)
    with atomic_write(file) as temporary:
        _encode(array, temporary, kind.name, about, options, lost)
    if lost:
        logger.warning("%s: left out: %s", _printable(file), "; ".join(lost))


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
    array: np.ndarray,
    file: Path,
    name: str,
    about: Metadata,
    options: WriteOptions,
    lost: list[str],
) -> None:
    array = np.ascontiguousarray(array)
    if name == "TIFF":
        if not write_tiff(array, file, about):
            lost.append("EXIF, in a file over 4 GB")
        return
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    parts: Iterator[bytes]
    if name == "PNG":
        level = options.compression
        how = _OPENCV_FASTEST if level is None else {"level": level}
        flat = array[..., 0] if array.shape[2] == 1 else array
        parts = png.join(codecs.png_encode(flat, **how), about)
    elif name == "AVIF" and options.lossless:
        # RGB as it is (the identity matrix), which Pillow's encoder cannot keep.
        parts = iter([codecs.avif_encode(array, 100, pixelformat="444", matrix=0)])
    else:
        parts = _encode_with_pillow(array, name, about, options)
    with file.open("wb") as out:
        out.writelines(parts)


def _encode_with_pillow(
    array: np.ndarray, name: str, about: Metadata, options: WriteOptions
) -> Iterator[bytes]:
    module = need("PIL.Image", "reading and writing images", "pillow")
    image = module.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    extra: dict[str, Any] = {}
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
