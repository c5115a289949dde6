"""The quickstart's photographs and its report.

scikit-image's wheel holds a few photographs; they stand in for a data set, so that
super-resolution can be seen to happen without a download.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..checkpoint import load_model
from ..utils.files import atomic_write
from ..utils.optional import need
from ..utils.resize import imresize
from . import measures
from .comparison import read_rgb

TRAINING = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
)
VALIDATION = ("chelsea.png", "coffee.png", "rocket.jpg")  # never trained on


def write_images(folder: str | Path, scale: int) -> list[Path]:
    """Writes the photographs as `train/hr`, `train/lr`, `val/hr` and `val/lr`.

    The low-resolution side is MATLAB's bicubic, rounded to 8 bits; high-resolution
    images are cropped to a multiple of `scale`. Existing files are written anew.

    Args:
        folder: Where to; made when missing.
        scale: Downscaling factor of the low-resolution side.

    Returns:
        The files written.

    Raises:
        ImportError: when scikit-image is not installed.
    """
    data = need("skimage.data", "the quickstart's photographs", "scikit-image")
    source = Path(data.__path__[0])
    written = []
    for part, names in (("train", TRAINING), ("val", VALIDATION)):
        for name in names:
            with Image.open(source / name) as opened:
                image = np.asarray(opened.convert("RGB"))
            height, width = (side - side % scale for side in image.shape[:2])
            high = image[:height, :width]
            low = to_bytes(imresize(to_tensor(high), 1 / scale))
            for kind, pixels in (("hr", high), ("lr", low)):
                target = Path(folder) / part / kind / f"{Path(name).stem}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                save(pixels, target)
                written.append(target)
    return written


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """8-bit (H, W, 3) to float64 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255


def to_bytes(x: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] to 8-bit (H, W, 3), rounded half up as MATLAB does."""
    levels = (x[0].double() * 255 + 0.5).floor().clamp(0, 255)
    return levels.permute(1, 2, 0).to(torch.uint8).numpy()


def save(pixels: np.ndarray, path: Path) -> None:
    """Writes 8-bit pixels as an image; the file is whole or not there."""
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """RGB PSNR of two 8-bit images (H, W, 3) in dB, over every pixel."""
    return measures.psnr(torch.tensor(a), torch.tensor(b))


@dataclass(frozen=True)
class Row:
    """One photograph: PSNR of bicubic and of the network (dB), its seconds."""

    name: str
    bicubic: float
    network: float
    seconds: float


def evaluate(model: str | Path, data: str | Path) -> list[Row]:
    """Upscales `data/val/lr` and compares with `data/val/hr`.

    Args:
        model: A weight file.
        data: A folder that `write_images` made.
    """
    descriptor = load_model(model)
    rows = []
    for path in sorted((Path(data) / "val" / "lr").glob("*.png")):
        low, high = read_rgb(path), read_rgb(path.parent.parent / "hr" / path.name)
        bicubic = to_bytes(imresize(to_tensor(low), descriptor.scale))
        start = time.perf_counter()
        network = to_bytes(descriptor(to_tensor(low).float()))
        seconds = time.perf_counter() - start
        rows.append(Row(path.stem, psnr(bicubic, high), psnr(network, high), seconds))
    if not rows:
        raise FileNotFoundError(
            f"Expected images in {str(Path(data) / 'val' / 'lr')!r}, but there are "
            "none. Run `paragon quickstart images` first."
        )
    return rows


def side_by_side(
    low: str | Path, upscaled: str | Path, original: str | Path, size: int = 256
) -> np.ndarray:
    """Lays one detail side by side: input, bicubic, ours, original.

    Args:
        low: The network's input.
        upscaled: The network's output.
        original: The high-resolution image.
        size: Side of the detail in high-resolution pixels; smaller images give all.

    Returns:
        8-bit pixels (H, W, 3) with a line of captions on top.
    """
    small, ours, high = (read_rgb(Path(p)) for p in (low, upscaled, original))
    scale = high.shape[0] // small.shape[0]
    bicubic = to_bytes(imresize(to_tensor(small), scale))
    nearest = small.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = (min(size, side) for side in high.shape[:2])
    top, left = (
        (s - d) // 2 for s, d in zip(high.shape, (height, width), strict=False)
    )
    detail = (slice(top, top + height), slice(left, left + width))
    caption, gap, zoom = 20, 6, 2  # pixels; details are shown enlarged, unfiltered
    tiles = [
        (f"input (x{scale} nearest)", nearest[detail]),
        (f"bicubic {psnr(bicubic, high):.2f} dB", bicubic[detail]),
        (f"ours {psnr(ours, high):.2f} dB", ours[detail]),
        ("original", high[detail]),
    ]
    sheet = Image.new(
        "RGB",
        ((width * zoom + gap) * len(tiles) - gap, height * zoom + caption),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for index, (text, pixels) in enumerate(tiles):
        x = index * (width * zoom + gap)
        draw.text((x + 4, 4), text, fill="black")
        enlarged = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
        sheet.paste(Image.fromarray(enlarged), (x, caption))
    return np.asarray(sheet)
