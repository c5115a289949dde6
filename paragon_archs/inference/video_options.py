"""How videos are written."""

from __future__ import annotations

from dataclasses import dataclass

from ..media.encoders import AUTO, CODECS
from ..media.resizing import wanted_size
from ..media.video import DECODERS


@dataclass(frozen=True)
class VideoOptions:
    """How videos are written.

    Attributes:
        codec: Encoder; by default x264, x265 for more than 8 bits, VP9 in WebM; `auto`
            for an NVIDIA card's, and these where there is none.
        quality: The encoder's constant quality (crf or cq), lower is better.
        pixel_format: Like `yuv420p`; by default the source's chroma and 8 or 10 bits.
        preset: The encoder's preset.
        temporal: Share of the features of the frame before; None for its default
            (0.2 for networks with a feature tap, none for others), 0 for none.
        batch: Frames that are computed side by side where memory allows.
        segment: Frames of a part; a killed run loses at most one part.
        deinterlace: Whether the two fields of a frame become one full frame first.
        scale_to: Width and height that results are brought to.
        downscale: Factor that results are made smaller by.
        cuda_graph: Whether a network that carries features is recorded on an NVIDIA
            card once, and each frame is one launch of it.
        decoder: `cpu`, `cuda` for an NVIDIA card's, or `auto` for that where it starts.
    """

    codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None
    preset: str | None = None
    temporal: float | None = None
    batch: int = 1
    segment: int = 240
    deinterlace: bool = False
    scale_to: tuple[int, int] | None = None
    downscale: float | None = None
    decoder: str = "cpu"
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("codec", (*CODECS, AUTO)), ("decoder", DECODERS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(
                    f"Expected {name} to be one of {', '.join(allowed)}, but got "
                    f"{value!r}. Choose one of these."
                )
        for name in ("batch", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Expected {name} to be at least 1, but got "
                    f"{getattr(self, name)!r}. Choose a larger value."
                )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the size that results of a width and height are brought to."""
        return wanted_size((width, height), self.scale_to, self.downscale)
