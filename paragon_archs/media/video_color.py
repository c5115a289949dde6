"""Between a video's frames and RGB arrays: depth, colour matrix, range, rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.optional import need

_DEEP = 8  # more bits than this are computed and written as 10
# Rows from which untagged video counts as BT.709, as players do.
_HD = 720
_UNSPECIFIED = (0, 2)  # values of untagged colour: reserved and unspecified
# swscale's flags: bicubic chroma at full resolution, rounded to nearest. Its quicker
# ways darken by more than 1 of 255 on each pass through halved chroma.
_SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000
_RGB = 0  # the matrix "RGB"; the converters know no such one


def _av() -> Any:
    return need("av", "video", "av")


@dataclass(frozen=True)
class Look:
    """What a video's pixels mean.

    Attributes:
        matrix: Between RGB and YUV, as swscale counts: 1 BT.709, 5 BT.601, 9 BT.2020.
        full: Whether values use the full range.
        bits: Of a value: 8, or 10 for all that is deeper.
        chroma: `420`, `422` or `444`.
        tags: Colour tags of the source for the encoder, by attribute name.
    """

    matrix: int
    full: bool
    bits: int
    chroma: str
    tags: dict[str, int]

    @property
    def rgb(self) -> str:
        """Format of the arrays: 8 or 16 bits a value."""
        return "rgb24" if self.bits == _DEEP else "rgb48le"


def look_of(stream: Any) -> Look:
    """Reads what a video stream's pixels mean off its codec's tags."""
    context = stream.codec_context
    tags = {
        name: int(getattr(context, name) or 0)
        for name in ("colorspace", "color_primaries", "color_trc", "color_range")
    }
    matrix = tags["colorspace"]
    if matrix in (*_UNSPECIFIED, _RGB):
        matrix = 1 if context.height >= _HD else 5
    matrix = {6: 5, 10: 9}.get(matrix, matrix)  # same coefficients under other names
    pixel_format = context.format
    bits = max(c.bits for c in pixel_format.components)
    name = pixel_format.name
    chroma = next((c for c in ("444", "422") if c in name), "420")
    if name.startswith(("rgb", "gbr", "bgr")):
        chroma = "444"
    return Look(
        matrix=matrix if matrix in (1, 4, 5, 7, 9) else 5,
        full=tags["color_range"] == 2 or name.startswith("yuvj"),
        bits=_DEEP if bits <= _DEEP else 10,
        chroma=chroma,
        tags=tags,
    )


def has_alpha(stream: Any) -> bool:
    """Whether a video stream holds transparency, which `to_rgb` leaves out."""
    beside = stream.metadata.get("alpha_mode") == "1"  # VP8's and VP9's way
    return beside or any(c.is_alpha for c in stream.codec_context.format.components)


def to_rgb(frame: Any, look: Look) -> np.ndarray:
    """Turns a frame into (H, W, 3), uint8 or uint16, upright."""
    rgb = frame.reformat(
        format=look.rgb,
        src_colorspace=look.matrix,
        dst_colorspace=look.matrix,
        src_color_range=2 if look.full else 1,
        dst_color_range=2,
        interpolation=_SCALING,
    )
    array = rgb.to_ndarray()
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as shown
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def from_rgb(array: np.ndarray, look: Look, pixel_format: str) -> Any:
    """Turns (H, W, 3) into a frame of a pixel format."""
    av = _av()
    frame = av.VideoFrame.from_ndarray(array, format=look.rgb)
    return frame.reformat(
        format=pixel_format,
        src_colorspace=look.matrix,
        dst_colorspace=look.matrix,
        src_color_range=2,
        dst_color_range=2 if look.full else 1,
        interpolation=_SCALING,
    )
