"""Protocols: how LR images are made, what is measured, and on which images."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..media.images import read_pixels, to_depth
from ..media.paths import find_images
from ..utils.resize import imresize
from .measures import gray, luma, psnr, quantize, shave, ssim

Measure = Callable[[Tensor, Tensor], float]


def read_image(path: str | Path) -> Tensor:
    """Returns an image as RGB, (3, H, W), uint8.

    Raises:
        ValueError: when the file is no whole image.
    """
    array = read_pixels(path)
    colors = array[..., :3] if array.shape[2] >= 3 else array[..., :1].repeat(3, axis=2)
    tensor = torch.from_numpy(np.ascontiguousarray(to_depth(colors, 8)))
    return tensor.permute(2, 0, 1).contiguous()


def crop_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Returns `image` (C, H, W) without the rows and columns beyond a multiple."""
    height, width = (side - side % scale for side in image.shape[-2:])
    return image[..., :height, :width]


def downscale_like_matlab(high: Tensor, scale: int) -> Tensor:
    """Returns the 8-bit LR image of `high` (3, H, W), uint8, by MATLAB's imresize."""
    low = imresize(high[None].float() / 255, 1 / scale)[0]
    return quantize(low).to(torch.uint8)


def downscale_like_pillow(high: Tensor, scale: int) -> Tensor:
    """Returns the 8-bit LR image of `high` (3, H, W), uint8, by Pillow's bicubic."""
    picture = Image.fromarray(high.permute(1, 2, 0).numpy())
    size = (picture.width // scale, picture.height // scale)
    array = np.array(picture.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Protocol:
    """How LR images are made and what is measured.

    Attributes:
        name: What the command calls it.
        about: One line for `--help` and for the head of the tables.
        downscale: (HR, scale) -> LR, both (3, H, W), uint8.
        border: Whether `scale` pixels at each border are left out.
        measures: Column -> measure of two 8-bit RGB images (3, H, W) in [0, 255].
    """

    name: str
    about: str
    downscale: Callable[[Tensor, int], Tensor]
    border: bool
    measures: dict[str, Measure]


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "standard",
            "LR by MATLAB's bicubic, 8-bit rounding, crop = scale, Y of BT.601",
            downscale_like_matlab,
            True,
            {
                "psnr_y": lambda a, b: psnr(luma(a), luma(b)),
                "ssim_y": lambda a, b: ssim(luma(a), luma(b)),
                "psnr_rgb": psnr,
                "ssim_rgb": ssim,
            },
        ),
        Protocol(
            "resshuffle",
            "LR by Pillow's bicubic, 8-bit rounding, no crop, RGB PSNR, gray SSIM",
            downscale_like_pillow,
            False,
            {
                "psnr_rgb": psnr,
                "ssim_gray": lambda a, b: ssim(gray(a), gray(b)),
            },
        ),
    )
}


def is_stored_gray(path: str | Path) -> bool:
    """Whether an image file holds one channel (three equal ones are color)."""
    with Image.open(path) as opened:
        return opened.mode in ("1", "L", "LA", "I;16")


def bicubic_of_luma(high: Tensor, scale: int, gray_file: bool) -> dict[str, float]:
    """Measures the bicubic baseline as the papers' MATLAB scripts did.

    The Y channel alone, 8-bit, is downscaled, upscaled and rounded once; an image that
    is stored gray is its own Y, full range (1.3 dB on one of Set14's images). This
    gives the published 33.66 dB on Set5 x2; upsampling R, G and B of the 8-bit LR
    image, as networks do, gives up to 0.1 dB more.

    Args:
        high: (3, H, W), uint8, sides multiples of `scale`.
        scale: Upscaling factor.
        gray_file: Whether the image is stored with one channel.
    """
    wide = high.double()
    y = (wide[:1] if gray_file else luma(wide)).round()
    low = imresize(y[None], 1 / scale)
    out = imresize(low, scale)[0].round().clamp(0, 255)
    a, b = shave(out, scale), shave(y, scale)
    return {"psnr_y": psnr(a, b), "ssim_y": ssim(a, b)}


def _one_folder(folder: str) -> list[Path]:
    """Returns a set's images, which must lie in one folder.

    HR and LR often lie side by side below a test set's; mixing them spoils tables.
    """
    images = find_images(folder)
    places = sorted({str(p.parent) for p in images})
    if len(places) > 1:
        raise ValueError(
            "Expected the images of a test set to lie in one folder, but got "
            f"{folder!r} with images in {places[0]!r} and {places[1]!r}. Name one."
        )
    return images


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """Returns an image (3, H, W), uint8, as its JPEG (4:2:0) shows it."""
    file = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    array = np.array(Image.open(file))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


@dataclass
class TestSet:
    """A named folder of HR images, and of LR images when they are given.

    Attributes:
        name: What the tables call it.
        images: HR files.
        lows: LR files of the same names, or None to make them.
        jpeg: Quality of the JPEG that LR images are saved as, or None.
    """

    __test__ = False  # not a test class, whatever pytest reads in its name

    name: str
    images: list[Path]
    lows: list[Path] | None = None
    jpeg: int | None = None

    def as_jpeg(self, quality: int) -> TestSet:
        """Returns the same set, its LR images saved as JPEG."""
        return replace(self, name=f"{self.name}, JPEG {quality}", jpeg=quality)

    @classmethod
    def open(cls, high: str, low: str | None = None) -> TestSet:
        """Reads `FOLDER` or `NAME=FOLDER`; LR files are paired by name.

        Raises:
            FileNotFoundError: when a folder is missing or empty.
            ValueError: when an image has no partner.
        """
        name, _, folder = high.rpartition("=")
        images = _one_folder(folder)
        if not name:
            place = Path(folder).resolve()
            generic = ("hr", "gt", "x2", "x3", "x4", "x8")
            while place.name.lower() in generic and place.parent != place:
                place = place.parent
            name = place.name
        if low is None:
            return cls(name, images)
        partners = {p.stem: p for p in _one_folder(low)}
        missing = [p.name for p in images if p.stem not in partners]
        if missing:
            raise ValueError(
                f"Expected an image of the same name in {low!r} for each of "
                f"{folder!r}, but got none for {missing[0]!r}. Name them alike."
            )
        return cls(name, images, [partners[p.stem] for p in images])

    def pair(self, index: int, scale: int, protocol: Protocol) -> tuple[Tensor, Tensor]:
        """Returns (LR, HR) of one image, uint8, HR cropped to LR times scale.

        Raises:
            ValueError: when a given LR image does not fit its HR image.
        """
        high = crop_to_multiple(read_image(self.images[index]), scale)
        if self.lows is None:
            return self._saved(protocol.downscale(high, scale)), high
        low = read_image(self.lows[index])
        want = tuple(side // scale for side in high.shape[-2:])
        if tuple(low.shape[-2:]) != want:
            raise ValueError(
                f"Expected {str(self.lows[index])!r} to be {want[1]} x {want[0]}, "
                f"1/{scale} of its HR image, but got {low.shape[2]} x {low.shape[1]}. "
                "Give the LR folder of this scale, or none."
            )
        return self._saved(low), high

    def _saved(self, low: Tensor) -> Tensor:
        return low if self.jpeg is None else as_jpeg(low, self.jpeg)
