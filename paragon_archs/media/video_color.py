"""Between a video's frames and RGB arrays: depth, color matrix, range, orientation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import need

if TYPE_CHECKING:
    from types import ModuleType

    from av import VideoFrame
    from av.filter import Graph


_DEEP = 8  # more bits than this are computed and written as 10
# Rows from which untagged video counts as BT.709, as players do.
_HD = 720
_PAL = (288, 576)  # rows of BT.601 with 50 fields a second
_UNSPECIFIED = (0, 2)  # values of untagged color: reserved and unspecified
# Bicubic chroma at full resolution, rounded to nearest: swscale's quicker ways darken
# by more than 1 of 255 on each pass through halved chroma.
_SCALING = "bicubic+full_chroma_int+full_chroma_inp+accurate_rnd"
# Matrix of AVColorSpace -> the scale filter's name.
_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
# Matrix -> primaries and transfer where nothing names them.
_COMPANIONS = {1: (1, 1), 5: (5, 6), 6: (6, 6)}


@dataclass(frozen=True)
class Look:
    """What a video's pixels mean.

    Attributes:
        matrix: Between RGB and YUV, as swscale counts: 1 BT.709, 5 BT.601, 9 BT.2020.
        full: Whether values use the full range.
        bits: Of a value: 8, or 10 for all that is deeper.
        chroma: `420`, `422` or `444`.
        tags: Color tags for the encoder by attribute name, those that were assumed
            with them: another size would make players assume others.
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

    @property
    def siting(self) -> str:
        """Where halved chroma lies, as players assume it: JPEG's way for full range."""
        return "center" if self.full else "left"


def look_of(stream: Any) -> Look:
    """Reads what a video stream's pixels mean off its codec's tags and its size."""
    context = stream.codec_context
    pixel_format = context.format
    name = pixel_format.name
    stored = {
        tag: int(getattr(context, tag) or 0)
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range")
    }
    rgb = name.startswith(("rgb", "gbr", "bgr", "pal8")) or pixel_format.is_rgb
    full = stored["color_range"] == 2 or name.startswith("yuvj")
    chroma = next((c for c in ("444", "422") if c in name), "420")
    bits = max(c.bits for c in pixel_format.components)
    tags = _assumed(stored, context.height, full)
    matrix = tags["colorspace"]
    return Look(
        matrix={6: 5, 10: 9}.get(matrix, matrix) if matrix in _MATRICES else 5,
        full=full,
        bits=_DEEP if bits <= _DEEP else 10,
        chroma="444" if rgb else chroma,
        tags=tags,
    )


def _assumed(stored: dict[str, int], height: int, full: bool) -> dict[str, int]:
    """Returns tags with those filled in that players assume for a height."""
    tags = dict(stored)
    if tags["colorspace"] in _UNSPECIFIED:  # 0 is RGB, which results are not
        tags["colorspace"] = 1 if height >= _HD else 5 if height in _PAL else 6
    primaries, transfer = _COMPANIONS.get(tags["colorspace"], (2, 2))
    for tag, assumed in (("color_primaries", primaries), ("color_trc", transfer)):
        if tags[tag] in _UNSPECIFIED:
            tags[tag] = assumed
    tags["color_range"] = 2 if full else 1
    return tags


def has_alpha(stream: Any) -> bool:
    """Whether a video stream holds transparency, which arrays leave out."""
    beside = stream.metadata.get("alpha_mode") == "1"  # VP8's and VP9's way
    return beside or any(c.is_alpha for c in stream.codec_context.format.components)


@dataclass
class ToRGB:
    """Turns frames into (H, W, 3), uint8 or uint16, upright, all of one size.

    Attributes:
        look: What the frames' pixels mean.
        size: Width and height of the first frame as it is stored.
        resized: How many frames of another size were brought to it.
    """

    look: Look
    size: tuple[int, int] | None = None
    resized: int = 0
    _graph: Any = None
    _given: tuple[str, int, int] | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        given = (frame.format.name, frame.width, frame.height)
        self.size = self.size or given[1:]
        self.resized += given[1:] != self.size
        if given != self._given:
            look, self._given = self.look, given
            self._graph = _scaler(
                given,
                look.rgb,
                size=self.size,
                in_color_matrix=_MATRICES[look.matrix],
                in_range="pc" if look.full or frame.format.is_rgb else "tv",
                out_range="pc",
                in_chroma_loc=look.siting,
            )
        return upright(_through(self._graph, frame).to_ndarray(), orientation(frame))


@dataclass
class FromRGB:
    """Turns (H, W, 3) into frames of a pixel format; for one thread."""

    look: Look
    pixel_format: str
    # Of a size: the graph, and the frame that goes in. Memory for a new one would cost
    # more than what the graph does.
    _graphs: dict[tuple[int, int], tuple[Graph, Any]] = field(default_factory=dict)

    def __call__(self, array: np.ndarray) -> VideoFrame:
        look = self.look
        size = (array.shape[1], array.shape[0])
        if size not in self._graphs:
            rgb = _av().VideoFormat(self.pixel_format).is_rgb
            graph = _scaler(
                (look.rgb, *size),
                self.pixel_format,
                in_range="pc",
                out_range="pc" if look.full or rgb else "tv",
                out_color_matrix=_MATRICES[look.matrix],
                out_chroma_loc=look.siting,
            )
            self._graphs[size] = graph, _av().VideoFrame(*size, look.rgb)
        graph, frame = self._graphs[size]
        plane = frame.planes[0]
        lines = np.frombuffer(plane, array.dtype).reshape(plane.height, -1)
        lines[:, : array[0].size] = array.reshape(len(array), -1)
        return _through(graph, frame)


def _scaler(
    given: tuple[str, int, int],
    wanted: str,
    size: tuple[int, int] | None = None,
    **settings: str,
) -> Graph:
    """Returns a filter graph from a pixel format and size to others."""
    name, width, height = given
    graph = _av().filter.Graph()
    size = size or (width, height)
    source = graph.add_buffer(
        width=width, height=height, format=name, time_base=Fraction(1, 25)
    )
    scale = graph.add(
        "scale", w=str(size[0]), h=str(size[1]), flags=_SCALING, **settings
    )
    graph.link_nodes(
        source, scale, graph.add("format", wanted), graph.add("buffersink")
    ).configure()
    return graph


def _through(graph: Graph, frame: VideoFrame) -> VideoFrame:
    frame.pts = 0 if frame.pts is None else frame.pts
    graph.vpush(frame)
    return graph.vpull()


def orientation(frame: Any) -> tuple[int, int, int, int] | None:
    """Returns the signs of a frame's display matrix: x' = a x + c y, y' = b x + d y.

    Returns:
        (a, b, c, d) of -1, 0 and 1; None where there is no matrix, or one that is no
        combination of quarter turns and mirrors.
    """
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            entries = struct.unpack("=9i", bytes(side))
            found = [entries[i] for i in (0, 1, 3, 4)]
            largest = max(map(abs, found)) or 1
            a, b, c, d = (round(value / largest) for value in found)
            exact = all(abs(v / largest - round(v / largest)) < 0.01 for v in found)
            if exact and abs(a * d - b * c) == 1 and a * b == c * d == 0:
                return a, b, c, d
    return None


def upright(array: np.ndarray, signs: Sequence[int] | None) -> np.ndarray:
    """Turns and mirrors (H, W, 3) by a display matrix."""
    if signs is None or tuple(signs) == (1, 0, 0, 1):
        return array
    a, b, c, d = signs
    if not a:  # rows become columns
        array = array.swapaxes(0, 1)
    if a + c < 0:
        array = array[:, ::-1]
    if b + d < 0:
        array = array[::-1]
    return np.ascontiguousarray(array)


def _av() -> ModuleType:
    return need("av", "video", "av")
