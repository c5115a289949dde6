"""Images of more than 8 bits that Pillow cuts to 8: PPM, AVIF, HEIC and JPEG 2000."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import need

if TYPE_CHECKING:
    from PIL import Image

_BETWEEN = rb"(?:\s|#[^\n]*\n)+"
_PPM = re.compile(
    rb"P([2356])" + _BETWEEN + rb"(\d+)" + _BETWEEN + rb"(\d+)" + _BETWEEN + rb"(\d+)\s"
)
# cICP's numbers of sRGB, of what is shown as sRGB, and of no word.
_PLAIN_PRIMARIES, _PLAIN_TRANSFERS = (1, 2), (1, 2, 6, 13)


def deep_pixels(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Returns (H, W, C) uint16 of a file of more than 8 bits, None for others.

    Args:
        image: As Pillow opened it.
        data: The file.

    Raises:
        ValueError: when it is cut off; the decoders raise others.
    """
    read = _READERS.get(str(image.format))
    found = read(image, data) if read else None
    if found is None:
        return None
    values, most = found
    if most == 65535:
        array = values.astype(np.uint16, copy=False)
    else:
        levels = np.rint(np.arange(most + 1) * (65535 / most)).astype(np.uint16)
        array = levels[np.minimum(values, most)]
    return array.reshape(*array.shape[:2], -1)


def _ppm(_: Image.Image, data: bytes) -> tuple[np.ndarray, int] | None:
    header = _PPM.match(data)
    if header is None or int(header[4]) < 256:
        return None
    kind, *numbers = (int(n) for n in header.groups())
    width, height, most = numbers
    shape = (height, width, 3 if kind in (3, 6) else 1)
    count = height * width * shape[2]
    if kind > 3:
        if len(data) - header.end() < 2 * count:
            raise ValueError("it is cut off")
        return np.frombuffer(data, ">u2", count, header.end()).reshape(shape), most
    values = np.array(data[header.end() :].split(maxsplit=count)[:count], np.uint32)
    if len(values) < count:
        raise ValueError("it is cut off")
    return values.reshape(shape), most


def _avif(_: Image.Image, data: bytes) -> tuple[np.ndarray, int] | None:
    at = data.find(b"av1C")  # AV1-ISOBMFF 2.3: the third byte has the depth's flags
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    if not flags & 0x40:
        return None
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    return codecs.avif_decode(data, index=0), 4095 if flags & 0x20 else 1023


def _heif(image: Image.Image, data: bytes) -> tuple[np.ndarray, int] | None:
    bits = int(image.info.get("bit_depth", 8))
    if bits <= 8:
        return None
    plugin: Any = need("pillow_heif", "HEIC images", "pillow-heif")
    opened = plugin.open_heif(
        io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False
    )
    return np.asarray(opened), 2**bits - 1


def _jpeg2000(_: Image.Image, data: bytes) -> tuple[np.ndarray, int] | None:
    at = data.find(b"\xff\x4f\xff\x51")  # T.800 A.5.1: depths stand behind the sizes
    bits = (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8
    if not 8 < bits <= 16:
        return None
    codecs = need("imagecodecs", "reading and writing images", "imagecodecs")
    return codecs.jpeg2k_decode(data), 2**bits - 1


_READERS = {"PPM": _ppm, "AVIF": _avif, "HEIF": _heif, "JPEG2000": _jpeg2000}


def coded_color(data: bytes) -> dict[bytes, bytes]:
    """Returns PNG's cICP chunk for the color that an AVIF or HEIC records.

    Nothing where that is sRGB, or shown as sRGB.
    """
    at = data.find(b"colrnclx")
    if at < 0 or len(data) < at + 15:
        return {}
    primaries, transfer = data[at + 9], data[at + 11]
    if primaries in _PLAIN_PRIMARIES and transfer in _PLAIN_TRANSFERS:
        return {}
    return {b"cICP": bytes([primaries, transfer, 0, 1])}
