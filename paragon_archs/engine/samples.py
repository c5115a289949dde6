"""Sample images: input, result and target side by side, as training goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..evaluation.page import Entry, Set
from ..evaluation.page.report import thinned

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

SIDE = 256  # of the middle part that is shown, in pixels of the result
SCENES, MOMENTS = 6, 12  # that a page holds at most


def parts_of(visuals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns input (enlarged, nearest), result and target by name, each (C, H, W)."""
    result = visuals["result"]
    shown = {
        "input": F.interpolate(visuals["lq"], result.shape[-2:], mode="nearest"),
        "result": result,
    }
    if "gt" in visuals:
        shown["target"] = visuals["gt"]
    top, left = (max(0, (side - SIDE) // 2) for side in result.shape[-2:])
    return {
        name: image[0, :3, top : top + SIDE, left : left + SIDE].clamp(0, 1)
        for name, image in shown.items()
    }


def write_sample(
    folder: Path,
    visuals: Mapping[str, Tensor],
    name: str,
    current_iter: int,
    tb_logger: SummaryWriter | None,
) -> None:
    """Writes one sample as `<folder>/<name>_<iteration>.png`, and to TensorBoard."""
    parts = parts_of(visuals)
    row = torch.cat(list(parts.values()), dim=-1)
    pixels = (row * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    about = PngInfo()
    about.add_text("parts", " ".join(parts))  # for whoever takes the row apart
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}_{current_iter}.png", pnginfo=about)
    if tb_logger:
        tb_logger.add_image(f"samples/{name}", row, current_iter)


def read_samples(folder: Path, last: int) -> list[Set]:
    """Returns the samples of a folder as scenes: input, results in time, target.

    Args:
        folder: Where `write_sample` wrote.
        last: Iteration that none may be later than.

    Raises:
        OSError: when a file is gone or damaged.
    """
    found: dict[str, dict[int, Path]] = {}
    for file in folder.glob("*.png"):
        match = re.fullmatch(r"(.+)_(\d+)", file.stem)
        if match and int(match[2]) <= last:
            found.setdefault(match[1], {})[int(match[2])] = file
    scenes = []
    for name, files in sorted(found.items())[:SCENES]:
        entries: list[Entry] = []
        parts: dict[str, np.ndarray] = {}
        for moment in thinned(sorted(files), MOMENTS):
            parts = _take_apart(files[moment])
            if "result" in parts:
                entries.append(Entry(f"iteration {moment:,}", parts["result"]))
        if not entries:
            continue
        newest = len(entries)
        entries.insert(0, Entry("input", parts["input"]))
        if "target" in parts:
            entries.append(Entry("target", parts["target"]))
        scenes.append(Set(name, entries, shown=(0, newest)))
    return scenes


def _take_apart(file: Path) -> dict[str, np.ndarray]:
    """Returns the parts of a sample, (H, W, 3); none of a file that names none."""
    with Image.open(file) as image:
        names = str(image.info.get("parts", "")).split()
        pixels = np.asarray(image.convert("RGB"))
    if not names:
        return {}
    return dict(zip(names, np.split(pixels, len(names), axis=1), strict=True))
