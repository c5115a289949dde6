"""Metadata of images, made to fit another size and another format.

`docs/metadata.md` has the table of what each format keeps; a test holds every cell.
"""

from __future__ import annotations

import re
import struct

from . import jpeg_segments as jpeg
from .color import channels_of, profile_of
from .exif import (
    DETAILS,
    HEIGHTS,
    MAKER_NOTE,
    ORIENTATION,
    RATIONAL,
    UNDEFINED,
    WIDTHS,
    Exif,
    ExifError,
)
from .picture import Metadata, Picture

# Format -> what its files hold.
HOLDS: dict[str, frozenset[str]] = {
    name: frozenset(kinds.split())
    for name, kinds in {
        "PNG": "exif icc dpi xmp iptc text color",
        "JPEG": "exif icc dpi xmp iptc comment",
        "WEBP": "exif icc xmp",
        "TIFF": "exif icc dpi xmp iptc",
        "AVIF": "exif icc xmp",
        "BMP": "dpi",
        "GIF": "comment",
        "PPM": "",
        "TGA": "",
    }.items()
}
LOSSLESS_AVIF: frozenset[str] = frozenset()  # its encoder takes pixels alone

_X, _Y, _UNIT, _INCH = 282, 283, 296, 2
_USER_COMMENT = 0x9286
# PNG's keywords -> EXIF's tags of the first directory.
_TAGS = {
    "Title": 0x010D,
    "Description": 0x010E,
    "Software": 0x0131,
    "Author": 0x013B,
    "Copyright": 0x8298,
}
_COMMENTS = ("parameters", "Comment")  # what becomes EXIF's comment, the first there

# XMP repeats sizes: the properties that scale with the width, and with the height.
_ACROSS = (
    "GPano:(?:FullPanoWidthPixels|CroppedAreaImageWidthPixels|CroppedAreaLeftPixels|"
    "LargestValidInteriorRectLeft|LargestValidInteriorRectWidth)|"
    "tiff:ImageWidth|exif:PixelXDimension|xmpGImg:width"
)
_DOWN = (
    "GPano:(?:FullPanoHeightPixels|CroppedAreaImageHeightPixels|CroppedAreaTopPixels|"
    "LargestValidInteriorRectTop|LargestValidInteriorRectHeight)|"
    "tiff:ImageLength|exif:PixelYDimension|xmpGImg:height"
)
_NUMBER = rb"((?:%s)\s*(?:=\s*[\"']|>)\s*)(\d{1,9})(?=\s*[\"'<])"
_ORIENTED = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>))[2-8]")
# What points to parts of the file that do not come along: a motion photo's video,
# a depth map, the rest of a long packet.
_STALE = (
    r"(?:GCamera|Camera):(?:MicroVideo|MotionPhoto)\w*|xmpNote:HasExtendedXMP|"
    r"GImage:\w+|GDepth:\w+|(?:GContainer|Container):Directory|xmp:Thumbnails|xap:Thumbnails"
)
_STALE_ATTRIBUTE = re.compile(rf"\s(?:{_STALE})=(?:\"[^\"<>]*\"|'[^'<>]*')".encode())
_STALE_ELEMENT = re.compile(rf"<({_STALE})(?:\s[^<>]*)?>".encode())


def upright(about: Metadata, notes: list[str]) -> int:
    """Takes the orientation out of freshly read metadata.

    A block that does not parse is dropped, and a phrase added to `notes`.

    Returns:
        EXIF's orientation, 1 to 8.
    """
    orientation = 1
    if about.exif is not None:
        try:
            exif = Exif.parse(about.exif)
        except ExifError as error:
            notes.append(f"broken EXIF ({error})")
            about.exif = None
        else:
            orientation = exif.number(None, ORIENTATION) or 1
            exif.main.pop(ORIENTATION, None)
            about.exif = exif.tobytes() if exif else None
            about.dpi = about.dpi or _dpi(exif)
    if about.xmp is not None:
        about.xmp = _ORIENTED.sub(rb"\g<1>1", about.xmp)
    if about.dpi and not all(1 < d < 1e6 for d in about.dpi):
        about.dpi = None
    return orientation if 1 <= orientation <= 8 else 1


def _dpi(exif: Exif) -> tuple[float, float] | None:
    values = []
    for tag in (_X, _Y):
        kind, count, value = exif.main.get(tag, (0, 0, b""))
        if kind != RATIONAL or count != 1:
            return None
        over, under = struct.unpack(exif.order + "2I", value)
        if not under:
            return None
        values.append(over / under * (2.54 if exif.number(None, _UNIT) == 3 else 1))
    return values[0], values[1]


def fit_profile(about: Metadata, channels: int, notes: list[str]) -> None:
    """Drops a profile that is none, or is for other channels than the pixels'."""
    if about.icc and channels_of(about.icc) != channels:
        notes.append("a color profile that does not fit the pixels")
        about.icc = None


def fit(
    picture: Picture, holds: frozenset[str], channels: int
) -> tuple[Metadata, bool, list[str]]:
    """Makes a picture's metadata fit its size and what a format holds.

    Args:
        picture: The picture as it is written.
        holds: What the format holds, out of `HOLDS`.
        channels: Color channels of the file: 1 or 3.

    Returns:
        The metadata, whether the pixels have to be converted from the profile to
        sRGB, and what is left out.
    """
    about, lost = picture.metadata, []
    if "color" not in holds and about.color:
        try:
            made = profile_of(about.color, picture.pixels.shape[2])
            # A decoder obeys cICP before a profile, and that before the others.
            if not about.icc or b"cICP" in about.color:
                about.icc = made or about.icc
        except ValueError as error:
            lost.append(str(error))
        about.color = {}
    convert = False
    if about.icc and ("icc" not in holds or channels_of(about.icc) != channels):
        convert = True
    exif = Exif.parse(about.exif) if about.exif else Exif()
    if about.text:
        about.text = _fit_text(about.text, holds, exif, lost)
    if "exif" in holds:
        _fit_sizes(exif, picture.size)
        if about.dpi and "dpi" not in holds:
            for tag, value in zip((_X, _Y), about.dpi, strict=True):
                ratio = struct.pack(exif.order + "2I", round(value * 1000), 1000)
                exif.main.setdefault(tag, (RATIONAL, 1, ratio))
            if exif.number(None, _UNIT) is None:
                exif.put(None, _UNIT, _INCH)
        about.exif = exif.tobytes() if exif else None
    if about.xmp is not None:
        about.xmp = scaled_xmp(about.xmp, picture.stored or picture.size, picture.size)
    described = bool(set(exif.main) - {_X, _Y, _UNIT} or any(exif.parts.values()))
    for kind, name in (("exif", "EXIF"), ("xmp", "XMP"), ("iptc", "IPTC")):
        if kind not in holds and getattr(about, kind):
            if kind != "exif" or described:  # not of the resolution alone
                lost.append(name)
            setattr(about, kind, None)
    if "comment" in holds and "exif" in holds:
        fit_jpeg(about, lost)
    return about, convert, lost


def _fit_sizes(exif: Exif, size: tuple[int, int]) -> None:
    """Brings the sizes that EXIF repeats up to date."""
    for places, side in zip((WIDTHS, HEIGHTS), size, strict=True):
        for part, tag in places:
            if tag in (exif.main if part is None else exif.parts.get(part, {})):
                exif.put(part, tag, side)


def _fit_text(
    text: tuple[tuple[str, str], ...],
    holds: frozenset[str],
    exif: Exif,
    lost: list[str],
) -> tuple[tuple[str, str], ...]:
    """Returns the texts that the format holds; others go into EXIF's tags if it can."""
    if "text" in holds:
        return text
    kept, left = [], []
    details = exif.parts.get(DETAILS, {})
    for key, value in sorted(text, key=lambda pair: pair[0] != "parameters"):
        if key == "Comment" and "comment" in holds and len(value.encode()) <= jpeg.MOST:
            kept.append((key, value))
        elif "exif" not in holds:
            left.append(key)
        elif key in _TAGS and _TAGS[key] not in exif.main:
            exif.put_text(_TAGS[key], value)
        elif key in _COMMENTS and _USER_COMMENT not in details:
            code = "utf-16-le" if exif.order == "<" else "utf-16-be"
            content = b"UNICODE\0" + value.encode(code, "replace")
            details = exif.parts.setdefault(DETAILS, {})
            details[_USER_COMMENT] = (UNDEFINED, len(content), content)
        else:
            left.append(key)
    if left:
        lost.append(f"text ({', '.join(left)})")
    return tuple(kept)


def scaled_xmp(xmp: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """Returns an XMP packet whose sizes fit, without what no longer is there."""
    for names, old, new in zip((_ACROSS, _DOWN), before, after, strict=True):

        def scale(found: re.Match[bytes], old: int = old, new: int = new) -> bytes:
            return found[1] + str(round(int(found[2]) * new / old)).encode()

        if old != new:
            xmp = re.sub(_NUMBER % names.encode(), scale, xmp)
    return _STALE_ATTRIBUTE.sub(b"", _without_stale_elements(xmp))


def _without_stale_elements(xmp: bytes) -> bytes:
    # By hand: a regular expression over both tags takes quadratic time on some files.
    kept, at = [], 0
    for found in _STALE_ELEMENT.finditer(xmp):
        if found.start() < at:
            continue
        close, end = b"</" + found[1] + b">", found.end()
        if not found[0].endswith(b"/>"):
            end = xmp.find(close, end) + len(close)
            if end < found.end():
                break
        kept.append(xmp[at : found.start()])
        at = end
    return b"".join([*kept, xmp[at:]])


def fit_jpeg(about: Metadata, lost: list[str]) -> None:
    """Drops what a JPEG's segments of 64 KB do not hold."""
    if about.exif and len(about.exif) > jpeg.EXIF_MOST:
        exif = Exif.parse(about.exif)
        large = _shrunk(exif, jpeg.EXIF_MOST)
        lost.append(f"EXIF's largest tags ({', '.join(large)}), over 64 KB")
        about.exif = exif.tobytes() if exif else None
    for kind, most in (
        ("xmp", jpeg.XMP_MOST),
        ("iptc", jpeg.MOST - 32),
    ):
        if len(getattr(about, kind) or b"") > most:
            lost.append(f"{kind.upper()} over 64 KB")
            setattr(about, kind, None)


def _shrunk(exif: Exif, most: int) -> list[str]:
    """Takes the largest values out of EXIF until it fits; returns what they were."""
    names: list[str] = []
    while len(exif.tobytes()) > most:
        tables = [exif.main, *exif.parts.values()]
        table, tag = max(
            ((table, tag) for table in tables for tag in table),
            key=lambda place: len(place[0][place[1]][2]),
        )
        names.append("the maker's note" if tag == MAKER_NOTE else f"tag {tag}")
        del table[tag]
    return names
