"""Sample images: input, result and target side by side, as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from basicsr.utils import imwrite, tensor2img
from torch import Tensor

SIDE = 256  # of the middle part that is shown, in pixels of the result


def side_by_side(visuals: Mapping[str, Tensor]) -> Tensor:
    """Returns input (enlarged, nearest), result and target in one row, (C, H, W)."""
    result = visuals["result"]
    shown = [F.interpolate(visuals["lq"], result.shape[-2:], mode="nearest"), result]
    if "gt" in visuals:
        shown.append(visuals["gt"])
    top, left = (max(0, (side - SIDE) // 2) for side in result.shape[-2:])
    parts = [x[0, :, top : top + SIDE, left : left + SIDE] for x in shown]
    return torch.cat(parts, dim=-1).clamp(0, 1)


def write_sample(
    folder: Path,
    visuals: Mapping[str, Tensor],
    name: str,
    current_iter: int,
    tb_logger: Any,
) -> None:
    """Writes one sample as `<folder>/<name>_<iteration>.png`, and to TensorBoard."""
    row = side_by_side(visuals)
    imwrite(tensor2img([row]), str(folder / f"{name}_{current_iter}.png"))
    if tb_logger:
        tb_logger.add_image(f"samples/{name}", row[:3], current_iter)
