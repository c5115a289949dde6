"""TIFF at 16 bits a value: pixels by tifffile, EXIF put beside them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.optional import need

_XMP = 700
_SIGN = 42  # of classic TIFF; files beyond 4 GB are BigTIFF, whose entries are longer
_PLANAR = 2


def read_deep_tiff(file: Path) -> np.ndarray:
    """Reads the first page: (H, W, C) uint16."""
    tifffile = need("tifffile", "16-bit colour in TIFF", "tifffile")
    with tifffile.TiffFile(file) as pages:
        page = pages.pages[0]
        array = page.asarray()
        return np.moveaxis(array, 0, 2) if page.planarconfig == _PLANAR else array


def write_deep_tiff(
    array: np.ndarray,
    file: Path,
    exif: bytes | None = None,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    xmp: bytes | None = None,
) -> bool:
    """Writes (H, W, 1 to 4) uint16: gray or RGB, and alpha behind it.

    Args:
        array: The values.
        file: Where to.
        exif: An EXIF block as Pillow makes it.
        icc: The colour profile.
        dpi: Horizontal and vertical dots per inch.
        xmp: The XMP packet.

    Returns:
        Whether the EXIF block, if there is one, is in the file.
    """
    tifffile = need("tifffile", "16 bits in TIFF", "tifffile")
    extra: dict[str, Any] = {}
    if dpi:
        extra |= {"resolution": dpi, "resolutionunit": "INCH"}
    colours = 1 if array.shape[2] < 3 else 3
    if array.shape[2] > colours:
        extra["extrasamples"] = ["UNASSALPHA"]
    if xmp:
        extra["extratags"] = [(_XMP, 1, len(xmp), xmp, True)]
    order = ">" if exif and exif.removeprefix(b"Exif\0\0").startswith(b"MM") else "<"
    tifffile.imwrite(
        file,
        array[..., 0] if array.shape[2] == 1 else array,
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig" if array.shape[2] > 1 else None,
        compression="deflate",
        iccprofile=icc,
        metadata=None,
        software=False,
        byteorder=order,
        **extra,
    )
    return not exif or _add_exif(file, exif, order)


def _add_exif(file: Path, exif: bytes, order: str) -> bool:
    """Puts EXIF's tags and sub-tables, which tifffile refuses, into a TIFF's directory.

    The block goes to the file's end and a new directory behind it: the old entries,
    whose offsets stay true, and the block's.
    """
    tags = need("PIL.Image", "reading and writing images", "pillow").Exif()
    tags.load(exif)
    with file.open("r+b") as out:
        sign, first = struct.unpack(f"{order}2xHI", out.read(8))
        if sign != _SIGN:
            return False
        out.seek(first)
        entries = _entries(out.read(2 + 12 * 0xFFFF), order)
        at = out.seek(0, 2)
        at += out.write(b"\0" * (at % 2))
        block = tags.tobytes(at)[14:]  # behind "Exif\0\0" and TIFF's header
        entries = _entries(block, order) | entries  # EXIF may tell of a layout too
        out.write(block + b"\0" * (len(block) % 2))
        at = out.tell()
        rows = b"".join(entry for _, entry in sorted(entries.items()))
        out.write(struct.pack(f"{order}H", len(entries)) + rows + b"\0\0\0\0")
        out.seek(4)
        out.write(struct.pack(f"{order}I", at))
    return True


def _entries(directory: bytes, order: str) -> dict[int, bytes]:
    """Returns a TIFF directory's entries of 12 bytes by their tags."""
    (count,) = struct.unpack_from(f"{order}H", directory)
    rows = (directory[2 + 12 * i : 14 + 12 * i] for i in range(count))
    return {struct.unpack_from(f"{order}H", row)[0]: row for row in rows}
