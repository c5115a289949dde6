"""Video encoders: which one for which file, and how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .video import VideoSource
from .video_color import FromRGB, Look

# Codec -> quality by default, in its own terms, and its other options.
CODECS: dict[str, tuple[int | None, dict[str, str]]] = {
    "libx264": (16, {"preset": "medium"}),
    "libx265": (18, {"preset": "medium", "x265-params": "log-level=error"}),
    "libsvtav1": (22, {"preset": "6"}),
    "libvpx-vp9": (20, {"b:v": "0", "row-mt": "1"}),
    "ffv1": (None, {}),
    "prores_ks": (None, {"profile": "3"}),
}


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

    def open(self, container: Any) -> Any:
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
        codec: Encoder; by default x264, x265 for more than 8 bits, VP9 in WebM.
        quality: The encoder's constant quality, lower is better.
        pixel_format: By default the source's chroma and 8 or 10 bits.
        preset: The encoder's preset.
    """
    look = source.look
    if codec is None:
        codec = "libx264" if look.bits == 8 else "libx265"
        codec = "libvpx-vp9" if suffix == ".webm" else codec
    usual, extra = CODECS[codec]
    settings = {**extra, "chroma_sample_location": look.siting}
    if usual is not None:
        settings["crf"] = str(usual if quality is None else quality)
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


def _pixel_format(codec: str, look: Look, width: int, height: int) -> str:
    chroma = look.chroma
    if codec == "prores_ks":
        return "yuv422p10le"
    if width % 2 or (height % 2 and chroma == "420"):
        chroma = "444"  # halved chroma needs even sides
    if codec == "libsvtav1":
        chroma = "420"
    return f"yuv{chroma}p{'' if look.bits == 8 else '10le'}"
