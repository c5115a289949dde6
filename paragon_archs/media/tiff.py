"""TIFF files by tifffile: every depth and layout, EXIF put beside the pixels."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..utils.optional import need
from .exif import Exif
from .jpeg_segments import iptc_of
from .picture import Metadata

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
# TIFF's own tags (TIFF 6.0, part 1 and 2), and those that are carried by themselves.
LAYOUT = (
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280),
    *(281, 284, 288, 289, 290, 291, 292, 293, 301, 317, 320, 322, 323, 324, 325, 330),
    *(332, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532),
    *(XMP, IPTC, PHOTOSHOP, ICC),
)
_SIGN = 42  # of classic TIFF; files beyond 4 GB are BigTIFF, whose entries are longer
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = 7
_ASSOCIATED, _UNASSOCIATED = 1, 2
_STRIP = 2**18  # bytes of a strip before it is packed
_CLASSIC = 2**32 - 2**25  # bytes of pixels, beyond which a file may need BigTIFF


class OtherTiffError(ValueError):
    """A TIFF file that is not of gray, RGB or a palette."""


def read_tiff(file: BinaryIO, most: int, notes: list[str]) -> np.ndarray:
    """Reads the first page: (H, W, 1 to 4), uint8 or uint16, alpha last.

    Args:
        file: The file.
        most: Bytes that the pixels may take.
        notes: Gets a phrase for what is left out.

    Raises:
        OtherTiffError: for CMYK, Lab and the like.
        MemoryError: when it is larger than `most`.
        ValueError: for values of other kinds.
    """
    tifffile = need("tifffile", "TIFF files", "tifffile")
    need("imagecodecs", "TIFF files", "imagecodecs")
    with tifffile.TiffFile(file) as pages:
        page: Any = pages.pages.first
        photometric = int(page.photometric)
        plain = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
        if not plain and not (photometric == _YCBCR and page.compression == _JPEG):
            raise OtherTiffError(f"photometric {photometric}")
        if page.dtype is None or page.dtype.kind not in "bufi":
            raise OtherTiffError("values of no known type")
        size = page.nbytes
        if size > most:
            raise MemoryError(size)
        if size > 2**24 and not any(page.databytecounts):
            raise ValueError("no data")
        array = page.asarray().reshape(page.shaped)[:, 0]  # planes, H, W, samples
        array = np.moveaxis(array, 0, 2).reshape(*array.shape[1:3], -1)
        bits = page.bitspersample
        extra = [int(kind) for kind in page.extrasamples]
        colormap = page.colormap if photometric == _PALETTE else None
    if colormap is not None:
        colors = (np.asarray(colormap) >> 8).astype(np.uint8).T
        return colors[array[..., 0].clip(0, len(colors) - 1)]
    array = _whole_depth(array, bits, notes)
    if photometric == _WHITE_IS_ZERO:
        array[..., 0] = np.iinfo(array.dtype).max - array[..., 0]
    colors = 3 if photometric in (_RGB, _YCBCR) else 1
    if array.shape[2] < colors:
        raise ValueError(f"{array.shape[2]} samples instead of {colors}")
    if array.shape[2] > colors and extra and extra[0] == _ASSOCIATED:
        array = _unassociated(array[..., : colors + 1])
    if array.shape[2] > colors and not (extra and extra[0] in (1, 2)):
        notes.append("samples of no stated meaning")
        return array[..., :colors]
    return array[..., : colors + 1]


def _whole_depth(array: np.ndarray, bits: int, notes: list[str]) -> np.ndarray:
    """Returns uint8 or uint16 of full range."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        values = np.nan_to_num(array.astype(np.float32), nan=0.0)
        if values.size and (values.min() < 0 or values.max() > 1):
            notes.append("values outside 0 to 1, which are clipped")
        return np.rint(values.clip(0, 1) * 65535).astype(np.uint16)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ValueError(
            f"it holds {array.dtype.itemsize * 8} bits a value, of type {array.dtype}"
        )
    full = 8 * array.dtype.itemsize
    if bits >= full:
        return array.astype(array.dtype.newbyteorder("="))
    wide = array.astype(np.uint32) * ((1 << full) - 1) + ((1 << bits) - 1) // 2
    return (wide // ((1 << bits) - 1)).astype(array.dtype.newbyteorder("="))


def _unassociated(array: np.ndarray) -> np.ndarray:
    """Divides colors by the alpha that they were multiplied with."""
    most = np.iinfo(array.dtype).max
    alpha = array[..., -1:].astype(np.uint64)
    colors = array[..., :-1].astype(np.uint64) * np.uint64(most) + alpha // np.uint64(2)
    colors = np.minimum(colors // np.maximum(alpha, np.uint64(1)), np.uint64(most))
    colors[alpha[..., 0] == 0] = 0
    return np.concatenate([colors.astype(array.dtype), array[..., -1:]], axis=2)


def read_metadata(data: bytes) -> tuple[Metadata, bool]:
    """Returns what a TIFF file holds beside pixels, and whether pages follow.

    Raises:
        ExifError: when the file has no directory.
    """
    exif = Exif.parse(data)
    parts = {tag: exif.main.get(tag, (0, 0, b""))[2] for tag in (XMP, IPTC, ICC)}
    label = exif.main.get(270, (0, 0, b""))[2]
    if label.startswith((b'{"shape":', b"ImageJ=")):  # of the layout that it came in
        del exif.main[270]
    photoshop = exif.main.get(PHOTOSHOP, (0, 0, b""))[2]
    for tag in LAYOUT:
        exif.main.pop(tag, None)
    about = Metadata(
        exif=exif.tobytes() if exif else None,
        icc=parts[ICC] or None,
        xmp=parts[XMP].rstrip(b"\0") or None,
        iptc=parts[IPTC] or iptc_of(photoshop),
    )
    return about, exif.more


def write_tiff(
    arrays: Iterator[np.ndarray], size: tuple[int, int], file: Path, about: Metadata
) -> bool:
    """Writes uint8 or uint16 of 1 to 4 channels: gray or RGB, and alpha behind it.

    Args:
        arrays: Rows from the top down, (rows, W, C).
        size: Width and height.
        file: Where to.
        about: What travels with the pixels.

    Returns:
        Whether the EXIF block, if there is one, is in the file.
    """
    tifffile = need("tifffile", "TIFF files", "tifffile")
    codecs = need("imagecodecs", "TIFF files", "imagecodecs")
    extra: dict[str, object] = {}
    if about.dpi:
        extra |= {"resolution": about.dpi, "resolutionunit": "INCH"}
    first = next(arrays)
    channels, kind = first.shape[2], first.dtype
    colors = 1 if channels < 3 else 3
    if channels > colors:
        extra["extrasamples"] = ["UNASSALPHA"]
    tags = [(XMP, 1, about.xmp), (IPTC, 7, about.iptc)]
    extra["extratags"] = [(t, k, len(v), v, True) for t, k, v in tags if v]
    exif = Exif.parse(about.exif) if about.exif else None
    order = exif.order if exif else "<"
    line = size[0] * channels * kind.itemsize
    rows = max(1, _STRIP // line)
    swapped = np.dtype(order + kind.str[1:])
    tifffile.imwrite(
        file,
        (
            codecs.zlib_encode(strip.astype(swapped, copy=False).tobytes())
            for strip in _strips(itertools.chain([first], arrays), rows)
        ),
        shape=(size[1], size[0], *([channels] if channels > 1 else [])),
        dtype=kind,
        rowsperstrip=min(rows, size[1]),
        bigtiff=line * size[1] > _CLASSIC,
        photometric="rgb" if colors == 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        compression="deflate",
        iccprofile=about.icc,
        metadata=None,
        software=False,
        byteorder=order,
        **extra,
    )
    return exif is None or _add_exif(file, exif)


def _strips(arrays: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Yields the same rows, `rows` at a time but for the last."""
    held: list[np.ndarray] = []
    count = 0
    for array in arrays:
        at = 0
        while at < len(array):
            taken = array[at : at + rows - count]
            at += len(taken)
            count += len(taken)
            held.append(taken)
            if count == rows:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def _add_exif(file: Path, exif: Exif) -> bool:
    """Puts EXIF's tags and sub-tables, which tifffile refuses, into a TIFF's directory.

    The block goes to the file's end and a new directory behind it: the old entries,
    whose offsets stay true, and the block's.
    """
    order = exif.order
    for tag in LAYOUT:
        exif.main.pop(tag, None)
    with file.open("r+b") as out:
        sign, first = struct.unpack(f"{order}2xHI", out.read(8))
        if sign != _SIGN:
            return False
        out.seek(first)
        entries = _entries(out.read(2 + 12 * 0xFFFF), order)
        at = out.seek(0, 2)
        at += out.write(b"\0" * (at % 2))
        block = exif.tobytes(at - 8)
        entries = _entries(block, order) | entries  # EXIF may repeat the layout
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
