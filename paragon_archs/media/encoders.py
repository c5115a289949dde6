"""Video encoders: which one for which file, and how it is set."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..utils.optional import need
from .video import VideoSource
from .video_color import FromRGB, Look

if TYPE_CHECKING:
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class Codec:
    """An encoder's settings where nobody asks for others.

    Attributes:
        quality: In its own terms, lower is better; None where it has none.
        options: Its other options.
        key: Its option of constant quality.
    """

    quality: int | None
    options: dict[str, str]
    key: str = "crf"


# A card's encoders: constant quality without a limit of the rate.
_NVENC = {"preset": "p5", "tune": "hq", "rc": "vbr", "b": "0"}
CODECS: dict[str, Codec] = {
    "libx264": Codec(16, {"preset": "medium"}),
    "libx265": Codec(18, {"preset": "medium", "x265-params": "log-level=error"}),
    "libsvtav1": Codec(22, {"preset": "6"}),
    "libvpx-vp9": Codec(20, {"b:v": "0", "row-mt": "1"}),
    "ffv1": Codec(None, {}),
    "prores_ks": Codec(None, {"profile": "3"}),
    "h264_nvenc": Codec(19, _NVENC, "cq"),
    "hevc_nvenc": Codec(21, _NVENC, "cq"),
    "av1_nvenc": Codec(26, _NVENC, "cq"),
}
AUTO = "auto"
"""The card's encoder where there is one, else the usual one."""
_ON_CARD = tuple(name for name in CODECS if name.endswith("_nvenc"))
# Its formats of more than 8 bits.
_DEEP = {"420": "p010le", "444": "yuv444p16le"}


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded, settled but for their number.

    Attributes:
        codec: One of `CODECS`.
        size: Width and height.
        pixel_format: Of the encoded frames.
        settings: The encoder's options.
        rate: Frames a second that the stream itself names.
        aspect: Width of a pixel over its height.
        look: What the pixels mean.
    """

    codec: str
    size: tuple[int, int]
    pixel_format: str
    settings: dict[str, str]
    rate: Fraction
    aspect: Fraction | None
    look: Look

    def open(self, container: Any) -> VideoStream:
        """Adds the encoder's stream to a file."""
        stream = container.add_stream(self.codec, rate=self.rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pixel_format
        context = stream.codec_context
        # Encoders count frames; the muxer gives each one its time. So the stream's own
        # header names the rate, and no source's timestamps can upset an encoder.
        context.time_base = 1 / self.rate
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        for name, value in self.look.tags.items():
            setattr(context, name, value)
        context.options = dict(self.settings)
        return stream

    def converter(self) -> FromRGB:
        """Returns what turns arrays into this encoder's frames."""
        return FromRGB(self.look, self.pixel_format)


def encoding(
    source: VideoSource,
    size: tuple[int, int],
    aspect: Fraction | None,
    suffix: str,
    codec: str | None = None,
    quality: int | None = None,
    pixel_format: str | None = None,
    preset: str | None = None,
) -> Encoding:
    """Settles how a source's frames are encoded.

    Args:
        source: Its rate, color and depth carry over.
        size: Width and height of the frames.
        aspect: Of their pixels.
        suffix: Of the output.
        codec: Encoder; by default x264, x265 for more than 8 bits, VP9 in WebM; `AUTO`
            for the card's, and these where there is none.
        quality: The encoder's constant quality, lower is better.
        pixel_format: By default the source's chroma and 8 or 10 bits.
        preset: The encoder's preset.

    Raises:
        ValueError: for an encoder of a card that does not start.
    """
    look = source.look
    usual = "libx264" if look.bits == 8 else "libx265"
    usual = "libvpx-vp9" if suffix == ".webm" else usual
    codec = _settled(source, codec, usual, suffix)
    known = CODECS[codec]
    settings = {**known.options, "chroma_sample_location": look.siting}
    if known.quality is not None:
        settings[known.key] = str(known.quality if quality is None else quality)
    if preset is not None and "preset" in settings:
        settings["preset"] = preset
    return Encoding(
        codec=codec,
        size=size,
        pixel_format=pixel_format or _pixel_format(codec, look, *size),
        settings=settings,
        rate=source.rate,
        aspect=aspect,
        look=look,
    )


def _settled(source: VideoSource, codec: str | None, usual: str, suffix: str) -> str:
    """Returns the encoder that is used."""
    if codec not in (*_ON_CARD, AUTO):
        return codec or usual
    deep = "h264_nvenc" if source.look.bits == 8 else "hevc_nvenc"
    wanted = ("av1_nvenc" if suffix == ".webm" else deep) if codec == AUTO else codec
    reason = refusal(wanted)
    if reason is None:
        return wanted
    if codec == AUTO:
        source.note(f"encoded by {usual}, as {wanted} does not start ({reason})")
        return usual
    raise ValueError(
        f"Expected an NVIDIA card and driver that encode by {wanted}, but it does not "
        f"start ({reason}). Choose {AUTO!r}, which takes {usual} then."
    )


@functools.cache
def refusal(codec: str) -> str | None:
    """Returns why an encoder does not start on this machine; None if it does."""
    av = need("av", "video", "av")
    try:
        with av.open(io.BytesIO(), "w", format="nut") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
            stream.codec_context.open()
    except (av.error.FFmpegError, ValueError) as error:  # there, or in this FFmpeg
        return str(getattr(error, "strerror", None) or error)
    return None


def _pixel_format(codec: str, look: Look, width: int, height: int) -> str:
    chroma = look.chroma
    if codec == "prores_ks":
        return "yuv422p10le"
    if width % 2 or (height % 2 and chroma == "420"):
        chroma = "444"  # halved chroma needs even sides
    if codec in ("libsvtav1", "av1_nvenc"):
        chroma = "420"
    if codec in _ON_CARD:
        chroma = "444" if chroma == "422" else chroma  # which few cards know
        return f"yuv{chroma}p" if look.bits == 8 else _DEEP[chroma]
    return f"yuv{chroma}p{'' if look.bits == 8 else '10le'}"
