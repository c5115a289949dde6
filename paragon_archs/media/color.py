"""Color: profiles that fit what they stand in, and what PNG records without one."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import need

if TYPE_CHECKING:
    from PIL import Image

# Of the profile's header (ICC.1:2022, 7.2): where its color space and signature stand.
_SPACE, _SIGNATURE = slice(16, 20), slice(36, 40)
_CHANNELS = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4, b"Lab ": 3}

# cICP's numbers (ITU-T H.273): white, red, green and blue in CIE x and y.
_D65 = (0.3127, 0.329)
_PRIMARIES: dict[int, tuple[float, ...]] = {
    1: (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),  # BT.709, sRGB
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),  # BT.601, 625 lines
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),  # BT.601, 525 lines
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # DCI-P3
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
_VIDEO = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# Number of a transfer function -> parameters of ICC's curve of type 3: g a b c d.
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), _VIDEO),
    4: (2.2, 1.0, 0.0, 0.0, 0.0),
    5: (2.8, 1.0, 0.0, 0.0, 0.0),
    8: (1.0, 1.0, 0.0, 0.0, 0.0),
    13: _SRGB,
}
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def channels_of(icc: bytes) -> int | None:
    """Returns the channels that a profile is for, None when it is no profile."""
    if len(icc) < 132 or icc[_SIGNATURE] != b"acsp":
        return None
    return _CHANNELS.get(icc[_SPACE])


@functools.cache
def srgb() -> bytes:
    """Returns an sRGB profile."""
    cms = need("PIL.ImageCms", "color profiles", "pillow")
    return cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes()


@functools.lru_cache(4)
def _transform(icc: bytes, mode: str) -> Any:
    """Returns a transform to sRGB, None where there is nothing to do.

    Raises:
        ValueError: when the profile is broken.
    """
    cms = need("PIL.ImageCms", "color profiles", "pillow")
    try:
        source = cms.ImageCmsProfile(io.BytesIO(icc))
        if mode == "RGB" and "sRGB" in cms.getProfileDescription(source):
            return None
        target = cms.ImageCmsProfile(io.BytesIO(srgb()))
        return cms.buildTransform(source, target, mode, "RGB")
    except (cms.PyCMSError, OSError) as error:
        raise ValueError(f"a broken color profile ({error})") from error


def image_to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """Converts an image of 8 bits a value from a profile.

    Raises:
        ValueError: when the profile is broken or for another kind of image.
    """
    cms = need("PIL.ImageCms", "color profiles", "pillow")
    transform = _transform(icc, image.mode)
    return image if transform is None else cms.applyTransform(image, transform)


def to_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Converts (H, W, 1 or 3) uint8 from a profile into RGB.

    Raises:
        ValueError: when the profile is broken or for another number of channels.
    """
    image = need("PIL.Image", "color profiles", "pillow")
    gray = pixels.shape[2] == 1
    if channels_of(icc) != pixels.shape[2]:
        raise ValueError("a color profile that does not fit")
    plain = image.fromarray(pixels[..., 0] if gray else pixels)
    return np.array(image_to_srgb(plain, icc))


def profile_of(color: Mapping[bytes, bytes], channels: int) -> bytes | None:
    """Returns a profile for what PNG's chunks say; None for sRGB or no word.

    Raises:
        ValueError: when no profile of this kind can express it: PQ and HLG.
    """
    primaries: tuple[float, ...] = _PRIMARIES[1]
    curve: tuple[float, ...] = _SRGB
    if len(coded := color.get(b"cICP", b"")) == 4:
        if coded[0] not in _PRIMARIES or coded[1] not in _CURVES:
            raise ValueError("what cICP says of its color")
        primaries, curve = _PRIMARIES[coded[0]], _CURVES[coded[1]]
    elif b"sRGB" in color:
        return None
    else:
        if len(gamma := color.get(b"gAMA", b"")) == 4 and any(gamma):
            # The usual 1/2.2 stands for sRGB wherever nothing else is recorded.
            encoded = struct.unpack(">I", gamma)[0] / 100_000
            if abs(encoded - 0.45455) > 0.005:
                curve = (1 / encoded, 1.0, 0.0, 0.0, 0.0)
        if len(xy := color.get(b"cHRM", b"")) == 32 and channels == 3:
            primaries = tuple(n / 100_000 for n in struct.unpack(">8I", xy))
    if np.allclose(primaries, _PRIMARIES[1], atol=1e-3) and curve == _SRGB:
        return None
    return _profile(primaries, curve, channels)


def _profile(
    primaries: tuple[float, ...], curve: tuple[float, ...], channels: int
) -> bytes:
    """Builds a display profile (ICC.1:2001, 6.3) out of primaries and one curve."""
    white, *colors = (
        np.array([x / y, 1, (1 - x - y) / y]) for x, y in _pairs(primaries)
    )
    sums = np.stack(colors, axis=1)
    to_xyz = sums * np.linalg.solve(sums, white)
    cones = _BRADFORD @ np.stack([_D50, white], axis=1)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones[:, 0] / cones[:, 1]) @ _BRADFORD
    columns = (adapt @ to_xyz).T
    table = np.linspace(0, 1, 1024)
    g, a, b, c, d = curve
    values = np.where(table >= d, np.maximum(a * table + b, 0) ** g, c * table)
    levels = np.rint(values * 65535).astype(">u2").tobytes()
    trc = struct.pack(">4sII", b"curv", 0, len(table)) + levels
    name = b"PNG color\0"
    text = struct.pack(">4sII", b"desc", 0, len(name)) + name + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0public domain\0", b"wtpt": _xyz(_D50)}
    if channels == 1:
        tags[b"kTRC"] = trc
    else:
        for letter, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags[letter + b"XYZ"] = _xyz(column)
            tags[letter + b"TRC"] = trc
    at = 128 + 4 + 12 * len(tags)
    rows, body = b"", b""
    places: dict[bytes, int] = {}
    for tag, value in tags.items():
        if value not in places:  # one curve for all three
            places[value] = at + len(body)
            body += value + bytes(-len(value) % 4)
        rows += struct.pack(">4sII", tag, places[value], len(value))
    space = b"GRAY" if channels == 1 else b"RGB "
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ "
    )
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head += date + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + rows + body


def _pairs(values: tuple[float, ...]) -> list[tuple[float, float]]:
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if any(y <= 0 or x < 0 or x + y > 1.2 for x, y in pairs):
        raise ValueError("impossible primaries (cHRM)")
    return pairs


def _xyz(values: np.ndarray) -> bytes:
    numbers = np.rint(values * 65536).astype(int)
    return struct.pack(">4sI3i", b"XYZ ", 0, *numbers)
