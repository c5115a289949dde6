"""Image files in and out: pixels at their own bit depth, and what travels with them.

Pillow reads and writes; the one thing it cannot do, colour at 16 bits, goes through
OpenCV (PNG) and tifffile (TIFF), which are asked for only then.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.files import atomic_write
from ..utils.optional import need
from .arrays import white
from .deep_tiff import read_deep_tiff, write_deep_tiff
from .paths import check_format

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

_ORIENTATION, _EXIF_IFD, _GPS_IFD = 0x0112, 0x8769, 0x8825
_SIZE, _SIZE_IN_EXIF, _BITS, _XMP = (256, 257), (0xA002, 0xA003), 258, 700
# TIFF's own tags (TIFF 6.0, part 1 and 2), and those that are carried by themselves.
_LAYOUT = (
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280),
    *(281, 282, 283, 284, 288, 289, 290, 291, 292, 293, 296, 301, 317, 320, 322, 323),
    *(324, 325, 330, 332, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532),
    *(_XMP, 34675),
)


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _pillow() -> Any:
    return need("PIL.Image", "reading and writing images", "pillow")


@dataclass
class Picture:
    """Pixels and what travels with them.

    Attributes:
        pixels: (H, W, 1) gray or (H, W, 3) RGB, uint8 or uint16, upright.
        alpha: (H, W) of the same dtype, or None when the picture is opaque.
        exif: The EXIF block without an orientation (it is applied), or None.
        icc: The ICC profile that `pixels` are in, or None.
        dpi: Horizontal and vertical dots per inch, or None.
        xmp: The XMP packet, or None.
        format: Pillow's name of the format it was read from, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    format: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def with_pixels(self, pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
        """Returns a picture of other pixels that keeps everything else."""
        return replace(self, pixels=pixels, alpha=alpha)


@dataclass(frozen=True)
class WriteOptions:
    """How pictures are written.

    Attributes:
        quality: 1 to 100 for JPEG, WebP and AVIF.
        lossless: Whether WebP and AVIF keep every value.
        depth: 8 or 16 bits a value, None for the picture's own.
        compression: PNG's deflate level, 0 to 9; None for OpenCV's own, the quickest.
    """

    quality: int = 95
    lossless: bool = False
    depth: int | None = None
    compression: int | None = None

    def __post_init__(self) -> None:
        allowed = {
            "quality": (1 <= self.quality <= 100, "1 to 100"),
            "depth": (self.depth in (None, 8, 16), "8 or 16"),
            "compression": (self.compression in (None, *range(10)), "0 to 9"),
        }
        for name, (fits, range_) in allowed.items():
            if not fits:
                raise ValueError(
                    f"Expected {name} to be {range_}, but got "
                    f"{getattr(self, name)!r}. Choose a value in that range."
                )


def read_picture(path: str | Path) -> Picture:
    """Reads an image file.

    The EXIF orientation is applied. Palettes become RGB, CMYK becomes RGB through its
    profile, and of an animation the first frame is read (the log says so).

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not an image, is cut short, holds floating values, or
            has more pixels than Pillow opens.
        ImportError: when Pillow is missing, or what 16-bit colour needs.
    """
    image_module = _pillow()
    file = Path(path)
    try:
        with image_module.open(file) as image:
            return _convert(file, image)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected an image, but there is no file {str(file)!r}. Check the path."
        ) from error
    except image_module.DecompressionBombError as error:
        raise ValueError(
            f"Expected {str(file)!r} to be of a size that can be trusted, but got: "
            f"{error} Cut it into parts."
        ) from error
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        # Pillow's errors: unknown formats are OSErrors, broken chunks SyntaxErrors.
        raise ValueError(
            f"Expected {str(file)!r} to be a whole image, but it cannot be read "
            f"({error}). Leave it out or replace it."
        ) from error


def _convert(file: Path, image: Image.Image) -> Picture:
    if getattr(image, "n_frames", 1) > 1:
        logger.warning("%s holds %d frames; the first is read", file, image.n_frames)  # type: ignore[attr-defined]
    deep = _deep_mode(image)  # before anything loads the pixels
    if not deep:
        image.load()  # of TIFF, this applies the orientation and takes its tag out
    exif = image.getexif()
    orientation = exif.pop(_ORIENTATION, 1)
    if image.format == "TIFF":  # its tags tell of the file's layout too
        for tag in _LAYOUT:
            exif.pop(tag, None)
    icc = image.info.get("icc_profile") or None
    dpi = image.info.get("dpi")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    format_ = image.format
    if deep:
        array = _read_deep(file, format_)
        if deep.startswith("LA") and array.shape[2] == 4:  # OpenCV widens gray
            array = array[..., [0, 3]]
    else:
        image, icc = _to_plain_mode(file, image, icc)
        array = np.asarray(image)
        if array.dtype == np.int32:  # mode I holds 16-bit gray in older Pillows
            if array.min() < 0 or array.max() > white(np.dtype(np.uint16)):
                raise ValueError(
                    f"Expected {str(file)!r} to hold 8 or 16 bits a value, but it "
                    "holds 32. Convert it to 16 bits first."
                )
            array = array.astype(np.uint16)
        elif array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype == np.bool_:
            array = array.astype(np.uint8) * np.uint8(255)
    array = array.reshape(*array.shape[:2], -1)
    array = _upright(array, orientation)
    colours = 3 if array.shape[2] >= 3 else 1
    return Picture(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=None
        if array.shape[2] == colours
        else np.ascontiguousarray(array[..., colours]),
        exif=exif.tobytes() if len(exif) else None,
        icc=icc,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 1 else None,
        xmp=_turned(xmp.encode() if isinstance(xmp, str) else xmp),
        format=format_,
    )


def _deep_mode(image: Image.Image) -> str:
    """Returns how a file holds colour of 16 bits (`RGB;16B`), "" for any other."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return ""
    if image.format == "TIFF":  # of separate planes, Pillow would read half of each
        bits = image.tag_v2.get(_BITS, (8,))  # type: ignore[attr-defined]
        return f"{image.mode};16" if max(bits) == 16 else ""
    tiles = getattr(image, "tile", None) or []
    arguments = tiles[0][3] if tiles else ""
    raw = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
    return str(raw) if ";16" in str(raw) else ""


def _read_deep(file: Path, format_: str | None) -> np.ndarray:
    """Reads 16-bit colour: (H, W, C) uint16 with C = 2 (gray, alpha), 3 or 4."""
    if format_ == "TIFF":
        return read_deep_tiff(file)
    cv2 = need("cv2", "16-bit colour in PNG", "opencv-python-headless")
    data = np.frombuffer(file.read_bytes(), np.uint8)
    array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if array is None:
        raise OSError("OpenCV cannot decode it")
    if array.shape[2] == 4:
        array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
    else:
        array = cv2.cvtColor(array, cv2.COLOR_BGR2RGB)
    return array


def _to_plain_mode(
    file: Path, image: Image.Image, icc: bytes | None
) -> tuple[Image.Image, bytes | None]:
    """Returns the image as gray, gray and alpha, RGB or RGBA, and its profile."""
    mode = image.mode
    if mode == "F":
        raise ValueError(
            f"Expected {str(file)!r} to hold 8 or 16 bits a value, but it holds "
            "floating values of unknown range. Convert it to 16 bits first."
        )
    if mode in ("1", "L", "LA", "RGB", "RGBA") or mode.startswith("I"):
        if "transparency" in image.info and mode in ("1", "L", "RGB"):
            return image.convert("LA" if mode != "RGB" else "RGBA"), icc
        return image, icc
    if mode in ("CMYK", "LAB") and icc:
        cms = importlib.import_module("PIL.ImageCms")
        srgb = cms.ImageCmsProfile(cms.createProfile("sRGB"))
        try:
            source = cms.ImageCmsProfile(io.BytesIO(icc))
            converted = cms.profileToProfile(image, source, srgb, outputMode="RGB")
        except (cms.PyCMSError, OSError):
            logger.warning("%s: its colour profile is broken and is dropped", file)
        else:
            return converted, srgb.tobytes()
    clear = "transparency" in image.info or mode in ("PA", "RGBa", "La")
    keeps = mode in ("P", "PA", "RGBX", "YCbCr")
    return image.convert("RGBA" if clear else "RGB"), icc if keeps else None


def _turned(xmp: bytes | None) -> bytes | None:
    """Returns an XMP packet whose orientation, a copy of EXIF's, says upright."""
    if xmp is None:
        return None
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>))[2-8]", rb"\g<1>1", xmp)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Applies EXIF orientation 1 to 8 to (H, W, C); anything else counts as 1."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def write_picture(
    picture: Picture, path: str | Path, options: WriteOptions | None = None
) -> None:
    """Writes an image file, whole or not at all; the extension chooses the format.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: for an unknown extension, or a format that cannot hold the depth
            or the transparency.
    """
    options = options or WriteOptions()
    file = Path(path)
    kind = check_format(file.suffix)
    format_ = kind.name
    depth = options.depth or picture.pixels.dtype.itemsize * 8
    if options.depth is None and not kind.deep:
        depth = 8
    if depth == 16 and not kind.deep:
        raise ValueError(
            f"Expected a format that holds 16 bits (PNG, TIFF), but got {format_}. "
            "Choose another --format or --depth 8."
        )
    if picture.alpha is not None and not kind.alpha:
        raise ValueError(
            f"Expected a format that holds transparency, but got {format_} for "
            f"{str(file)!r}. Choose PNG, WebP, TIFF or AVIF."
        )
    channels = [to_depth(picture.pixels, depth)]
    if picture.alpha is not None:
        channels.append(to_depth(picture.alpha, depth)[..., None])
    array = np.concatenate(channels, axis=2) if len(channels) > 1 else channels[0]
    with atomic_write(file) as temporary:
        if format_ == "PNG":
            temporary.write_bytes(_png(array, picture, options))
        elif depth == 16:
            exif = _exif_for(picture)
            told = (exif, picture.icc, picture.dpi, picture.xmp)
            if not write_deep_tiff(array, temporary, *told):
                logger.warning("%s: too large for EXIF, which is left out", file)
        else:
            _write_with_pillow(array, picture, temporary, format_, options)


def to_depth(array: np.ndarray, depth: int) -> np.ndarray:
    """Returns uint8 or uint16 values as `depth` bits; full white stays full white."""
    if array.dtype.itemsize * 8 == depth:
        return array
    if depth == 16:
        return array.astype(np.uint16) * np.uint16(257)
    return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _exif_for(picture: Picture) -> bytes | None:
    """Returns the EXIF block with the sizes that it repeats brought up to date."""
    if picture.exif is None:
        return None
    exif = _pillow().Exif()
    exif.load(picture.exif)
    # Asked for a table that is not there, Pillow would write an empty one.
    details = exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {}
    for tags, table in ((_SIZE_IN_EXIF, details), (_SIZE, exif)):
        for tag, value in zip(tags, picture.size, strict=True):
            if tag in table:
                table[tag] = value
    return exif.tobytes()


def _exif_has_parts(block: bytes) -> bool:
    exif = _pillow().Exif()
    exif.load(block)
    return any(exif.get_ifd(part) for part in (_EXIF_IFD, _GPS_IFD))


def _write_with_pillow(
    array: np.ndarray,
    picture: Picture,
    file: Path,
    format_: str,
    options: WriteOptions,
) -> None:
    image = _pillow().fromarray(array[..., 0] if array.shape[2] == 1 else array)
    extra: dict[str, Any] = {}
    exif = _exif_for(picture)
    if exif and format_ in ("JPEG", "WEBP", "AVIF", "TIFF"):
        extra["exif"] = exif
    if picture.icc and format_ in ("JPEG", "WEBP", "AVIF", "TIFF"):
        extra["icc_profile"] = picture.icc
    if picture.dpi and format_ in ("JPEG", "TIFF", "BMP"):
        extra["dpi"] = picture.dpi
    if picture.xmp and format_ in ("JPEG", "WEBP", "AVIF"):
        extra["xmp"] = picture.xmp
    elif picture.xmp and format_ == "TIFF":
        tags = _pillow().Exif()
        if exif:
            tags.load(exif)
        tags[_XMP] = picture.xmp
        extra["exif"] = tags.tobytes()
    if format_ == "JPEG":
        extra |= {"quality": options.quality, "subsampling": 0}
    elif format_ == "WEBP":
        extra |= {"quality": options.quality, "lossless": options.lossless}
    elif format_ == "AVIF":
        quality = 100 if options.lossless else options.quality
        extra |= {"quality": quality, "subsampling": "4:4:4"}
    elif format_ == "TIFF" and not (exif and _exif_has_parts(exif)):
        extra["compression"] = "tiff_deflate"  # libtiff cannot write EXIF's sub-tables
    image.save(file, format_, **extra)


def _png(array: np.ndarray, picture: Picture, options: WriteOptions) -> bytes:
    """Returns a PNG file's bytes: pixels by OpenCV or Pillow, then our chunks."""
    data = _png_pixels(array, options)
    chunks = list(_png_chunks(picture))
    if not chunks:
        return data
    # Signature (8 bytes) and IHDR (25) come first; ours go right behind them.
    return data[:33] + b"".join(chunks) + data[33:]


@functools.cache
def _has_opencv() -> bool:
    """Whether OpenCV, which writes twice as fast as Pillow, is there and loads."""
    try:
        importlib.import_module("cv2")
    except ImportError:  # absent, or without the system's libraries: Pillow writes
        return False
    return True


def _png_pixels(array: np.ndarray, options: WriteOptions) -> bytes:
    channels = array.shape[2]
    plain = array.dtype == np.uint8 or channels == 1
    if plain and (channels < 3 or not _has_opencv()):
        image = _pillow().fromarray(array[..., 0] if channels == 1 else array)
        buffer = io.BytesIO()
        level = 1 if options.compression is None else options.compression
        image.save(buffer, "PNG", compress_level=level)
        return buffer.getvalue()
    if channels == 2:  # neither OpenCV nor Pillow writes gray and alpha at 16 bits
        height, width = array.shape[:2]
        rows = array.astype(">u2").reshape(height, -1).view(np.uint8)
        lines = np.pad(rows, ((0, 0), (1, 0)))  # each begins with its filter: none
        header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
        level = 1 if options.compression is None else options.compression
        packed = _chunk(b"IDAT", zlib.compress(lines.tobytes(), level))
        return _SIGNATURE + _chunk(b"IHDR", header) + packed + _chunk(b"IEND", b"")
    cv2 = need("cv2", "16-bit colour in PNG", "opencv-python-headless")
    order = cv2.COLOR_RGBA2BGRA if channels == 4 else cv2.COLOR_RGB2BGR
    flags = []
    if options.compression is not None:
        flags = [cv2.IMWRITE_PNG_COMPRESSION, options.compression]
    _, encoded = cv2.imencode(".png", cv2.cvtColor(array, order), flags)
    return encoded.tobytes()


def _png_chunks(picture: Picture) -> Iterator[bytes]:
    """Yields the chunks of profile, resolution, EXIF and XMP (PNG, third edition)."""
    if picture.icc:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        x, y = (round(d / 0.0254) for d in picture.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    exif = _exif_for(picture)
    if exif:
        yield _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if picture.xmp:
        yield _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp)


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
