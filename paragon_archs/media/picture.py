"""A picture in memory: pixels, and what travels with them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np


@dataclass
class Metadata:
    """Metadata that goes with the pixels.

    Attributes:
        exif: The EXIF block without an orientation (it is applied), or None.
        icc: The ICC profile that the pixels are in, or None.
        dpi: Horizontal and vertical dots per inch, or None.
        xmp: The XMP packet, or None.
        iptc: IPTC's records (IIM), or None.
        text: Keys and texts: PNG's, and a comment as `Comment`.
        color: PNG's chunks that say what pixels mean (cICP, gAMA, cHRM, sRGB).
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    color: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Picture:
    """Pixels and what travels with them.

    Attributes:
        pixels: (H, W, 1) gray or (H, W, 3) RGB, upright; uint8 or uint16, or float32
            in [0, 1] for a result that is not yet rounded.
        alpha: (H, W) of the same dtype, or None when the picture is opaque.
        exif: As in `Metadata`, like the next five.
        icc: See there.
        dpi: See there.
        xmp: See there.
        format: Pillow's name of the format it was read from, or None.
        iptc: See there.
        text: See there.
        color: See there.
        stored: Width and height that it was read with, which metadata may repeat.
        bits: Bits a value that it was read with.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    format: str | None = None
    iptc: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    color: dict[bytes, bytes] = field(default_factory=dict)
    stored: tuple[int, int] | None = None
    bits: int = 0

    def __post_init__(self) -> None:
        self.stored = self.stored or self.size
        if not self.bits:
            floating = np.issubdtype(self.pixels.dtype, np.floating)
            self.bits = 8 if floating else self.pixels.dtype.itemsize * 8

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def metadata(self) -> Metadata:
        """What travels with the pixels."""
        values = {f.name: getattr(self, f.name) for f in fields(Metadata)}
        return Metadata(**values)

    def with_pixels(self, pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
        """Returns a picture of other pixels that keeps everything else."""
        return replace(self, pixels=pixels, alpha=alpha)


@dataclass(frozen=True)
class WriteOptions:
    """How pictures are written.

    Attributes:
        quality: 1 to 100 for JPEG, WebP and AVIF.
        lossless: Whether WebP and AVIF keep every value.
        depth: 8 or 16 bits a value, None for the picture's own.
        compression: PNG's deflate level, 0 to 9; None for the quickest.
    """

    quality: int = 95
    lossless: bool = False
    depth: int | None = None
    compression: int | None = None

    def __post_init__(self) -> None:
        allowed = {
            "quality": (1 <= self.quality <= 100, "1 to 100"),
            "depth": (self.depth in (None, 8, 16), "8 or 16"),
            "compression": (self.compression in (None, *range(10)), "0 to 9"),
        }
        for name, (fits, range_) in allowed.items():
            if not fits:
                raise ValueError(
                    f"Expected {name} to be {range_}, but got "
                    f"{getattr(self, name)!r}. Choose a value in that range."
                )
