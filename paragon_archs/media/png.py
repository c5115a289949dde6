"""PNG's chunks (PNG specification, third edition): what travels beside the pixels."""

from __future__ import annotations

import binascii
import itertools
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

from .picture import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR = (b"cICP", b"gAMA", b"cHRM", b"sRGB")  # what pixels mean, without a profile
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MOST = 2**26  # bytes that one compressed chunk may grow to
_XMP = "XML:com.adobe.xmp"
# Deflate packs no more than 1032 bytes into one.
_RATIO = 1032
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_EXPANDED = {0: 2, 2: 4, 3: 4, 4: 2, 6: 4}  # with alpha
_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> color type
_LONGEST = 2**30
_SUB = 1  # filter: each byte less that of the pixel before


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content; stops where the file is cut off."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            return
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk's bytes, with length and checksum."""
    sum_ = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + sum_


def split(data: bytes, notes: list[str]) -> tuple[bytes, Metadata]:
    """Separates a file into one of pixels alone and what travels with them.

    Args:
        data: The file.
        notes: Gets a phrase for each thing that is left out.
    """
    about = Metadata()
    text: list[tuple[str, str]] = []
    at = len(SIGNATURE)
    pixels = [SIGNATURE]
    for kind, content in chunks(data):
        whole = data[at : at + 12 + len(content)]
        at += len(whole)
        if kind in _PIXELS:
            pixels.append(whole)
        elif kind in COLOR:
            about.color[kind] = content
        elif kind == b"acTL":
            notes.append("it is animated; the first frame is read")
        else:
            try:
                _read(kind, content, about, text)
            except (ValueError, IndexError, struct.error, zlib.error) as error:
                notes.append(f"a broken {kind.decode('latin-1')} chunk ({error})")
        if kind == b"IEND":
            break
    else:
        pixels.append(data[at:])  # of a file that is cut off: the decoder reports it
    about.text = tuple(text)
    return b"".join(pixels), about


def _read(
    kind: bytes, content: bytes, about: Metadata, text: list[tuple[str, str]]
) -> None:
    if kind == b"iCCP":
        name, _, rest = content.partition(b"\0")
        if not 1 <= len(name) <= 79:
            raise ValueError("no name")
        about.icc = _inflated(rest[1:])
    elif kind == b"eXIf":
        about.exif = content
    elif kind == b"pHYs":
        x, y, unit = struct.unpack(">IIB", content)
        if unit == 1 and x and y:
            about.dpi = x * 0.0254, y * 0.0254
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        key, value = _text(kind, content)
        if key == _XMP:
            about.xmp = value.encode()
        elif key.startswith("Raw profile type "):
            _raw_profile(key.split()[-1].lower(), value, about)
        else:
            text.append((key, value))


def _text(kind: bytes, content: bytes) -> tuple[str, str]:
    key, _, rest = content.partition(b"\0")
    name = key.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _inflated(rest[1:]).decode("latin-1")
    packed = rest[0]
    _, _, value = rest[2:].split(b"\0", 2)
    return name, (_inflated(value) if packed else value).decode("utf-8", "replace")


def _raw_profile(kind: str, value: str, about: Metadata) -> None:
    """Reads what ImageMagick keeps as text: a name, a length, and bytes in hex."""
    found = re.match(r"\s*\S+\s+(\d+)\s", value)
    if not found:
        raise ValueError("no length")
    content = binascii.unhexlify("".join(value[found.end() :].split()))
    if kind in ("exif", "app1") and content.startswith((b"Exif", b"II", b"MM")):
        about.exif = about.exif or content
    elif kind == "xmp":
        about.xmp = about.xmp or content
    elif kind == "iptc":
        about.iptc = content


def _inflated(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    value = stream.decompress(content, _MOST)
    if stream.unconsumed_tail:
        raise ValueError(f"more than {_MOST >> 20} MB")
    if not stream.eof:
        raise ValueError("cut off")
    return value


def is_plausible(data: bytes) -> bool:
    """Whether the file is long enough for the size that its header states."""
    width, height, bits, kind = _header(data)
    needed = width * height * bits * _CHANNELS.get(kind, 1) // 8
    return needed <= _RATIO * len(data) + _RATIO


def size_of(data: bytes) -> tuple[tuple[int, int], int]:
    """Returns width and height, and the bytes that a pixel takes at most."""
    width, height, bits, kind = _header(data)
    return (width, height), _EXPANDED.get(kind, 4) * max(1, bits // 8)


def has_clear_color(file: BinaryIO) -> bool:
    """Whether a file names clear colors (tRNS), which stands before its pixels."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind in (b"tRNS", b"IDAT"):
            return kind == b"tRNS"
        file.seek(size + 4, 1)
    return False


def _header(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < 33:
        raise ValueError("it is cut off")
    return struct.unpack_from(">IIBB", data, 16)


def join(data: bytes, about: Metadata) -> Iterator[bytes]:
    """Yields a file of pixels alone with what travels with them behind its header."""
    # Signature (8 bytes) and IHDR (25) come first; ours go right behind them.
    yield data[:33]
    yield from ancillary(about)
    yield data[33:]


def ancillary(about: Metadata) -> Iterable[bytes]:
    """Yields the chunks of metadata, in the order that the specification asks for."""
    for kind in COLOR:
        # A decoder obeys cICP, then the profile; what contradicts it is left out.
        if kind in about.color and not (about.icc and kind == b"sRGB"):
            yield chunk(kind, about.color[kind])
    if about.icc:
        yield chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(about.icc))
    if about.dpi:
        x, y = (round(d / 0.0254) for d in about.dpi)
        yield chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if about.exif:
        yield chunk(b"eXIf", about.exif.removeprefix(b"Exif\0\0"))
    if about.xmp:
        yield chunk(b"iTXt", _XMP.encode() + b"\0\0\0\0\0" + about.xmp)
    if about.iptc:
        rows = re.sub("(.{72})", r"\1\n", about.iptc.hex())
        value = f"\niptc\n{len(about.iptc):8}\n{rows}\n".encode()
        key = b"Raw profile type iptc"
        yield chunk(b"zTXt", key + b"\0\0" + zlib.compress(value))
    for key, value in about.text:
        name = key.encode("latin-1", "replace")[:79]
        try:
            yield chunk(b"tEXt", name + b"\0" + value.encode("latin-1"))
        except UnicodeEncodeError:
            yield chunk(b"iTXt", name + b"\0\0\0\0\0" + value.encode())


def _data(packed: bytes) -> Iterator[bytes]:
    """Yields chunks of pixels, none of them longer than a chunk may be."""
    for at in range(0, len(packed), _LONGEST):
        yield chunk(b"IDAT", packed[at : at + _LONGEST])


def encoded(
    arrays: Iterator[np.ndarray],
    size: tuple[int, int],
    about: Metadata,
    level: int | None,
    pack: Callable[[np.ndarray], bytes] | None = None,
) -> Iterator[bytes]:
    """Yields a file of rows that come from the top down.

    Args:
        arrays: (rows, W, 1 to 4), uint8 or uint16.
        size: Width and height.
        about: What travels with the pixels.
        level: Deflate's, 0 to 9; None for the quickest.
        pack: Deflates all rows at once, which then come as one array; else they are
            deflated as they come.
    """
    first = next(arrays)
    channels, bytes_ = first.shape[2], first.dtype.itemsize
    yield SIGNATURE
    header = (*size, 8 * bytes_, _KINDS[channels], 0, 0, 0)
    yield chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    yield from ancillary(about)
    strategy = zlib.Z_RLE if level is None else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(1 if level is None else level, strategy=strategy)
    step = channels * bytes_
    for array in itertools.chain([first], arrays):
        flat = array.astype(array.dtype.newbyteorder(">"), copy=False)
        raw = flat.reshape(len(array), -1).view(np.uint8)
        lines = np.empty((len(array), 1 + raw.shape[1]), np.uint8)
        lines[:, 0] = _SUB
        lines[:, 1 : 1 + step] = raw[:, :step]
        np.subtract(raw[:, step:], raw[:, :-step], out=lines[:, 1 + step :])
        packed = packer.compress(lines.data) if pack is None else pack(lines)
        yield from _data(packed)
    yield from _data(packer.flush() if pack is None else b"")
    yield chunk(b"IEND", b"")
