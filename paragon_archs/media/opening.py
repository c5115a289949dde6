"""Image files opened: what they are, what their headers say, what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ..utils.files import printable
from ..utils.optional import need
from . import png
from .paths import PLUGINS, UNSUPPORTED

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

JPEG_SIGNATURE = b"\xff\xd8"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What Pillow reads here, in the order of its looks; TGA has no signature.
_BY_PILLOW = ("WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "ICO", "PCX")
_BY_PILLOW += ("SGI", "HEIF", "JXL", "TGA")
_GRAY = ("1", "L", "I", "F")  # first bands


class UnknownFormatError(ValueError):
    """A file that starts like no image."""


@dataclass(frozen=True)
class Look:
    """What a header records of the pixels.

    Attributes:
        size: Width and height, as they are stored.
        channels: Of what is read, alpha counted: 1 to 4.
        alpha: Whether there may be clear pixels.
        each: Bytes that a pixel takes while it is read.
    """

    size: tuple[int, int]
    channels: int
    alpha: bool
    each: int


def look(path: str | Path) -> Look | None:
    """Reads a file's header; None where only reading all of it can tell.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no image.
        ImportError: when a package is missing.
    """
    file = Path(path)
    _check_readable(file)

    def header() -> Look | None:
        try:
            with file.open("rb") as content:
                return _look(content)
        except (ImportError, UnknownFormatError):
            raise
        except Exception:  # whatever a broken header leads a parser to
            return None

    return guarded(file, header)


def _look(content: BinaryIO) -> Look | None:
    start = content.read(33)
    content.seek(0)
    if start.startswith(png.SIGNATURE):
        (size, each), kind = png.size_of(start), start[25]
        alpha = kind in (4, 6) or png.has_clear_color(content)
        colors = 1 if kind in (0, 4) else 3
        return Look(size, colors + alpha, alpha, each)
    if start[:4] in TIFF_SIGNATURES:
        tifffile = need("tifffile", "TIFF files", "tifffile")
        with tifffile.TiffFile(content) as pages:
            page: Any = pages.pages.first
            alpha = bool(page.extrasamples) and int(page.extrasamples[0]) in (1, 2)
            colors = 1 if int(page.photometric) in (0, 1) else 3
            size = (int(page.imagewidth), int(page.imagelength))
            each = page.samplesperpixel * (1 + (page.bitspersample > 8))
            return Look(size, colors + alpha, alpha, each)
    if start.startswith(JPEG_SIGNATURE):
        image = need("PIL.JpegImagePlugin", "JPEG images", "pillow").JpegImageFile(
            content
        )
    else:
        image = open_image(content)
    bands = image.getbands()
    alpha = bands[-1] in "Aa" or "transparency" in image.info
    colors = 1 if bands[0] in _GRAY else 3
    return Look(image.size, colors + alpha, alpha, len(bands))


def read_size(path: str | Path) -> tuple[int, int]:
    """Returns width and height out of a file's header, as they are stored.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not an image.
    """
    seen = look(path)
    if seen is None:
        raise ValueError(
            f"Expected {printable(Path(path))!r} to be a whole image, but its header "
            "is broken. Leave it out or replace it."
        )
    return seen.size


def content_of(file: Path) -> bytes:
    """Returns a file's bytes.

    Raises:
        As `look`.
    """
    _check_readable(file)
    return file.read_bytes()


def _check_readable(file: Path) -> None:
    if not file.exists():
        raise FileNotFoundError(
            f"Expected an image, but there is no file {str(file)!r}. Check the path."
        )
    suffix = file.suffix.lower()
    if not file.is_file() or suffix in UNSUPPORTED:
        raise ValueError(
            f"Expected an image of pixels, but got {printable(file)!r}. Convert it to "
            "PNG or TIFF first."
        )
    if suffix in PLUGINS:
        plugin = need(
            PLUGINS[suffix].replace("-", "_"), f"{suffix[1:]} images", PLUGINS[suffix]
        )
        if register := getattr(plugin, "register_heif_opener", None):
            register()


def guarded(file: Path, decode: Callable[[], T]) -> T:
    """Runs a decoder, whose errors of any kind become one sentence."""
    try:
        return decode()
    except MemoryError as error:
        size = f"{error.args[0] / 2**30:.1f} GB" if error.args else "more"
        raise ValueError(
            f"Expected {printable(file)!r} to fit into memory, but its pixels take "
            f"{size}. Allow more with --memory, or cut it into parts."
        ) from error
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(
            f"Expected {printable(file)!r} to be a whole image, but it cannot be read "
            f"({error or type(error).__name__}). Leave it out or replace it."
        ) from error


def open_image(content: BinaryIO) -> Image.Image:
    """Opens a file by its signature, without Pillow's limit: ours follows `most`."""
    module = need("PIL.Image", "reading and writing images", "pillow")
    module.init()
    start = content.read(16)
    if not start:
        raise UnknownFormatError("it is empty")
    start = start.ljust(16, b"\0")  # some of the looks need so many
    for name in _BY_PILLOW:
        factory, accept = module.OPEN.get(name, (None, None))
        if factory is None or (accept and accept(start) is not True):
            continue
        try:
            content.seek(0)
            return factory(content)
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error):
            continue  # as Pillow's own loop does
    raise UnknownFormatError("it is of no known format")


def check_size(size: tuple[int, int], each: int, most: int) -> None:
    """Raises MemoryError when pixels of `each` bytes take more than `most`."""
    if size[0] * size[1] * each > most:
        raise MemoryError(size[0] * size[1] * each)
