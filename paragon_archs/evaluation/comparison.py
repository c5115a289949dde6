"""Pictures side by side: what is compared, and how far apart it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..inference.upscaler import Upscaler
from ..media.images import read_picture, to_depth
from ..media.paths import find_images
from ..utils.progress import task
from ..utils.resize import imresize
from . import iqa
from .measures import luma, psnr, quantize, shave, ssim
from .page import Entry, Measure, Set

_SMALLEST = 11  # pixels of a side: SSIM's window
MEASURES = (
    Measure("psnr_y", "PSNR-Y, dB"),
    Measure("ssim_y", "SSIM", digits=4),
    Measure("lpips", "LPIPS", "lower", 4),
    Measure("dists", "DISTS", "lower", 4),
    Measure("topiq_fr", "TOPIQ", digits=4),
    Measure("seconds", "seconds", "lower", 2),
    Measure("mp_per_s", "MP/s"),
)
PERCEPTUAL = ("lpips", "dists", "topiq_fr")
Metrics = Mapping[str, Callable[[Tensor, Tensor], float]]


def perceptual_metrics(device: str = "cpu") -> tuple[Metrics, dict[str, str]]:
    """Returns what pyiqa can measure here, and name -> reason of what it cannot.

    Both are empty where pyiqa is not installed.
    """
    try:
        found, failed = iqa.load_metrics(PERCEPTUAL, device)
    except ImportError:
        return {}, {}
    return {name.removeprefix("pyiqa_"): m for name, m in found.items()}, failed


def read_rgb(path: str | Path) -> np.ndarray:
    """Returns an image as (H, W, 3), uint8; transparency is left out."""
    pixels = to_depth(read_picture(path).pixels, 8)
    return pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels[..., :3].copy()


def compare(
    name: str,
    entries: Sequence[Entry],
    reference: Entry | None = None,
    metrics: Metrics | None = None,
    border: int = 0,
) -> Set:
    """Measures pictures of one scene against a reference, or the first of them.

    Only pictures of the reference's size are measured; the page shows the others
    stretched.

    Args:
        name: Of the scene.
        entries: Pictures, with measures that they have already.
        reference: The original; it is shown last.
        metrics: Measures of (image, reference), (3, H, W) in [0, 255], by key.
        border: Pixels at each side that PSNR and SSIM leave out.
    """
    target = reference or entries[0]
    measured = []
    for entry in entries:
        found = dict(entry.measures)
        same = entry.pixels.shape == target.pixels.shape
        inner = min(entry.pixels.shape[:2]) - 2 * border
        if entry is not target and same and inner >= _SMALLEST:
            a, b = tensor(entry.pixels), tensor(target.pixels)
            inside = [shave(luma(image), border) for image in (a, b)]
            found["psnr_y"], found["ssim_y"] = psnr(*inside), ssim(*inside)
            found |= {key: metric(a, b) for key, metric in (metrics or {}).items()}
        measured.append(Entry(entry.name, entry.pixels, found))
    if reference is not None:
        measured.append(reference)
    distances = [_distance(e.pixels, target.pixels) for e in measured]
    return Set(name, measured, target.name, max(distances))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the mean absolute difference, in 255ths; 0 for different sizes."""
    if a.shape != b.shape:
        return 0.0
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def tensor(pixels: np.ndarray) -> Tensor:
    """Returns (H, W, 3), uint8, as (3, H, W) in [0, 255], float64."""
    return torch.from_numpy(pixels).permute(2, 0, 1).double()


def to_pixels(image: Tensor) -> np.ndarray:
    """Returns (3, H, W) of whole values in [0, 255] as (H, W, 3), uint8."""
    pixels = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


def pair_up(
    folders: Sequence[Path], reference: Path | None
) -> list[tuple[str, list[Path], Path | None]]:
    """Returns (name, a file of each folder, reference) of what the folders share.

    Files are paired by their path inside the folder, without the suffix.

    Raises:
        FileNotFoundError: when a folder holds no image.
        ValueError: when nothing is in all of them.
    """
    places = [*folders, *([reference] if reference else [])]
    found = [_by_stem(place) for place in places]
    names = [n for n in found[0] if all(n in other for other in found)]
    if not names:
        raise ValueError(
            "Expected folders that hold images of the same names, but got "
            f"{', '.join(repr(str(p)) for p in places)}, which share none. Rename them."
        )
    files = [[one[name] for one in found] for name in names]
    if reference is None:
        return [(n, f, None) for n, f in zip(names, files, strict=True)]
    return [(n, f[:-1], f[-1]) for n, f in zip(names, files, strict=True)]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in find_images(folder)
    }


def run_models(
    scenes: Sequence[tuple[str, Path, Path | None]],
    models: Mapping[str, Upscaler],
    metrics: Metrics | None = None,
) -> list[Set]:
    """Upscales pictures by several models; bicubic stands beside them.

    Args:
        scenes: Name, picture, and the original or None.
        models: By name.
        metrics: As in `compare`.
    """
    sets = []
    for upscaler in models.values():  # the first run of a network costs more
        upscaler.image(np.zeros((32, 32, 3), np.uint8))
    with task("compare", len(scenes) * len(models), "run") as counted:
        for name, source, original in scenes:
            pixels = read_rgb(source)
            entries = [
                bicubic(pixels, scale)
                for scale in sorted({m.scale for m in models.values()})
            ]
            for model, upscaler in models.items():
                started = time.perf_counter()
                upscaled = upscaler.image(pixels)
                seconds = time.perf_counter() - started
                speed = upscaled.shape[0] * upscaled.shape[1] / 1e6 / seconds
                figures = {"seconds": seconds, "mp_per_s": speed}
                entries.append(Entry(model, upscaled, figures))
                counted.advance()
            reference = None
            if original is not None:
                reference = Entry("original", _cropped(read_rgb(original), entries))
            sets.append(compare(name, entries, reference, metrics))
    return sets


def bicubic(pixels: np.ndarray, scale: int) -> Entry:
    """Returns a picture upscaled by MATLAB's bicubic, as an entry."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return Entry(f"bicubic x{scale}", to_pixels(quantize(imresize(x, scale)[0])))


def bicubic_to(pixels: np.ndarray, size: tuple[int, int]) -> Entry:
    """Returns a picture brought to (height, width) by bicubic, as an entry."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return Entry("bicubic", to_pixels(quantize(imresize(x, size=size)[0])))


def _cropped(original: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Returns an original without what its reduction has cut off, a few rows."""
    height, width = entries[-1].pixels.shape[:2]
    over = (original.shape[0] - height, original.shape[1] - width)
    if all(0 <= o < 16 for o in over):
        return np.ascontiguousarray(original[:height, :width])
    return original
