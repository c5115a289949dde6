"""Pictures that memory may not hold: what is written row by row, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..media.opening import Look
from ..media.paths import Format
from ..media.picture import Picture, WriteOptions
from ..media.writing import BY_ROWS, write_rows
from ..utils.files import printable
from ..utils.halves import PATIENCE
from . import memory
from .upscaler import SpoiledError, Upscaler

# Results are held whole up to this, and up to a share of what is free.
_WHOLE = 2**28
_SHARE = 4
_UNASKED = 2**28  # bytes that nobody is asked for


def goes_by_rows(
    upscaler: Upscaler,
    picture: Picture,
    dtype: np.dtype,
    kind: Format,
    resized: bool,
) -> bool:
    """Whether a result is written while it is computed, and never held.

    Args:
        upscaler: What upscales it.
        picture: The picture.
        dtype: Of the result.
        kind: The format of the result.
        resized: Whether the result is brought to another size.
    """
    if kind.name not in BY_ROWS or upscaler.tta or resized:
        return False
    free = memory.host_budget(upscaler.limit, upscaler.device) / _SHARE
    channels = picture.pixels.shape[2] + (picture.alpha is not None)
    pixels = picture.size[0] * picture.size[1] * upscaler.scale**2
    result = pixels * channels * dtype.itemsize
    return result > min(_WHOLE, max(free, _WHOLE / 16))


def write_by_rows(
    upscaler: Upscaler,
    picture: Picture,
    dtype: np.dtype,
    path: Path,
    options: WriteOptions,
) -> None:
    """Upscales a picture into a file; memory holds a few rows of the result.

    Args:
        upscaler: What upscales it.
        picture: The picture.
        dtype: Of the result.
        path: Where to; the extension chooses the format, one of `BY_ROWS`.
        options: How it is written.
    """
    height, width = (side * upscaler.scale for side in picture.pixels.shape[:2])
    zero = np.zeros((), dtype)  # in place of values: size and layout count here
    colors = np.broadcast_to(zero, (height, width, picture.pixels.shape[2]))
    alpha = None if picture.alpha is None else np.broadcast_to(zero, (height, width))
    result = picture.with_pixels(colors, alpha)
    for attempt in range(PATIENCE + 1):
        try:
            write_rows(result, upscaler.rows(picture, dtype), path, options)
            return
        except SpoiledError:  # the next one is float32's, at last
            if attempt == PATIENCE:
                raise


def check_memory(
    upscaler: Upscaler, path: Path, seen: Look, kind: Format, resized: bool
) -> None:
    """Finds out before any work whether a picture and its result fit into memory.

    Args:
        upscaler: What upscales it.
        path: Its file.
        seen: From its header.
        kind: The format of the result.
        resized: Whether the result is brought to another size.

    Raises:
        MemoryError: when its own pixels do not.
        ValueError: when the result does not, or what the network keeps of it.
    """
    free = memory.host_budget(upscaler.limit, upscaler.device)
    size = seen.size[0] * seen.size[1]
    whole = upscaler.tta or resized
    if whole or kind.name not in BY_ROWS:
        # The result and what the encoder makes of it; sums and sizes are of floats.
        needed = size * upscaler.scale**2 * seen.channels * (8 if whole else 2)
        if needed > max(free, _UNASKED):
            advice = (
                "Leave out --tta, --scale-to and --downscale, which hold it whole."
                if kind.name in BY_ROWS
                else "Choose PNG, TIFF or PPM, which are written row by row."
            )
            raise ValueError(
                f"Expected the result of {printable(path)!r} to fit into memory, but "
                f"it takes {needed / 2**30:.1f} of {free / 2**30:.1f} GB. {advice}"
            )
    if upscaler.device.type != "cpu":
        return  # a GPU that is full reports it
    least = upscaler.runner.least(upscaler.border.size((seen.size[1], seen.size[0])))
    free = memory.free_memory()
    if least > max(free, _UNASKED):
        raise ValueError(
            f"Expected {printable(path)!r} to fit into memory, but its network keeps "
            f"{least / 2**30:.1f} GB of features of the whole picture and "
            f"{free / 2**30:.1f} GB are free. Choose a network that keeps none, like "
            "paragonsr2_realtime_x4, or cut it into parts."
        )
