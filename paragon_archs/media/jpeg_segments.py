"""JPEG's segments (ITU-T T.81, annex B): what travels beside the pixels."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .picture import Metadata

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOS, _COM = 0xDA, 0xFE
_APP0, _APP15, _ADOBE = 0xE0, 0xEF, 0xEE
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _JFIF = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0"
_IPTC = 0x0404  # Photoshop's resource
# A marker within or behind entropy-coded data: not a stuffed byte, fill, or restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
MOST = 65_533  # bytes of a segment's content
_MOST_ICC = MOST - len(_ICC) - 2
EXIF_MOST, XMP_MOST = MOST, MOST - len(_XMP)
_PER_CM = 2


def split(data: bytes, notes: list[str]) -> tuple[bytes, bytes, Metadata]:
    """Separates a file into one of pixels alone and what travels with them.

    Args:
        data: The file.
        notes: Gets a phrase for each thing that is left out.

    Returns:
        The file without metadata, what it lacks at its end (an end marker, or
        nothing), and the metadata.
    """
    about = Metadata()
    profile: dict[int, bytes] = {}
    count, at = 0, len(_SOI)
    kept = [_SOI]
    for kind, content in _segments(data):
        whole = data[at : at + 4 + len(content)]
        at += len(whole)
        if _APP0 <= kind <= _APP15 or kind == _COM:
            if kind == _ADOBE or content.startswith(_JFIF):
                kept.append(whole)  # they say how colors are coded
            if content.startswith(_ICC) and len(content) > len(_ICC) + 2:
                place, count = content[len(_ICC)], content[len(_ICC) + 1]
                profile[place] = content[len(_ICC) + 2 :]
            else:
                _read(kind, content, about, notes)
        else:
            kept.append(whole)
    if profile:
        if sorted(profile) == list(range(1, count + 1)):
            about.icc = b"".join(profile[n] for n in sorted(profile))
        else:
            notes.append("a color profile of which parts are missing")
    end = _end(data, at)
    rest = data[end:].strip(b"\0\n\r ") if end else b""
    if rest:
        kinds = {b"ftyp": "a motion photo's video", _SOI: "further pictures"}
        what = next((v for k, v in kinds.items() if k in rest[:64]), "of no known kind")
        notes.append(f"{len(rest)} bytes behind the picture ({what})")
    kept.append(data[at : end or len(data)])
    return b"".join(kept), b"" if end else _EOI, about


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and content of each segment up to the first scan's."""
    at = len(_SOI)
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, size = struct.unpack_from(">xBH", data, at)
        if kind == 0xFF or size < 2 or at + 2 + size > len(data) or kind == _SOS:
            return
        yield kind, data[at + 4 : at + 2 + size]
        at += 2 + size


def _end(data: bytes, at: int) -> int | None:
    """Returns where the end marker of a picture ends, None when there is none."""
    while found := _MARKER.search(data, at):
        at = found.end()
        if found[0] == _EOI:
            return at
        if at + 2 <= len(data):  # tables or the head of a further scan
            at += struct.unpack_from(">H", data, at)[0]
    return None


def _read(kind: int, content: bytes, about: Metadata, notes: list[str]) -> None:
    if content.startswith(_EXIF):
        about.exif = about.exif or content
    elif content.startswith(_XMP):
        about.xmp = content[len(_XMP) :]
    elif content.startswith(_MORE_XMP):
        if "extended XMP" not in notes:
            notes.append("extended XMP")
    elif content.startswith(_PHOTOSHOP):
        about.iptc = iptc_of(content[len(_PHOTOSHOP) :]) or about.iptc
    elif content.startswith(_JFIF) and len(content) >= 12:
        unit, x, y = struct.unpack_from(">BHH", content, 7)
        if unit in (1, _PER_CM):
            inch = 2.54 if unit == _PER_CM else 1
            about.dpi = x * inch, y * inch
    elif kind == _COM:
        text = content.rstrip(b"\0")
        try:
            value = text.decode()
        except UnicodeDecodeError:
            value = text.decode("latin-1")
        about.text = (*about.text, ("Comment", value))


def iptc_of(resources: bytes) -> bytes | None:
    """Returns IPTC's records out of Photoshop's resources, None when there are none."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        kind, name = struct.unpack_from(">HB", resources, at + 4)
        at += 6 + (name + 2) // 2 * 2
        if at + 4 > len(resources):
            return None
        (size,) = struct.unpack_from(">I", resources, at)
        at += 4
        if kind == _IPTC:
            return resources[at : at + size]
        at += size + size % 2
    return None


def join(data: bytes, about: Metadata) -> Iterator[bytes]:
    """Yields a file of pixels alone with what travels with them behind its header."""
    at = len(_SOI)
    if data[at + 4 : at + 9] == _JFIF:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    yield data[:at]
    if about.exif:
        yield _segment(0xE1, about.exif)
    if about.xmp:
        yield _segment(0xE1, _XMP + about.xmp)
    if about.iptc:
        odd = b"\0" * (len(about.iptc) % 2)
        head = struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(about.iptc))
        yield _segment(0xED, _PHOTOSHOP + head + about.iptc + odd)
    if about.icc:
        size = len(about.icc)
        parts = [about.icc[n : n + _MOST_ICC] for n in range(0, size, _MOST_ICC)]
        for number, part in enumerate(parts, 1):
            yield _segment(0xE2, _ICC + bytes([number, len(parts)]) + part)
    for _, value in about.text:
        yield _segment(_COM, value.encode())
    yield data[at:]


def _segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content
