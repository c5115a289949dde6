"""Perceptual and other measures of pyiqa; those that cannot be had are named once."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Our name -> pyiqa's; the published tables of these networks have these seven.
NAMES = {
    "psnr": "psnr",
    "psnr_y": "psnry",
    "ssim": "ssim",
    "ssim_c": "ssimc",
    "lpips": "lpips",
    "dists": "dists",
    "topiq_fr": "topiq_fr",
}


def load_metrics(
    names: Sequence[str], device: str = "cpu"
) -> tuple[dict[str, Callable[[Tensor, Tensor], float]], dict[str, str]]:
    """Opens metrics of pyiqa, which fetches the weights that some of them need.

    Args:
        names: Keys of `NAMES`.
        device: Where they run.

    Returns:
        Column (`pyiqa_lpips`, ...) -> measure of (image, reference), 8-bit RGB images
        (3, H, W) in [0, 255], whole, no border left out; and name -> reason, in one
        line, of those that cannot run here.

    Raises:
        ImportError: when pyiqa is not installed.
        ValueError: for an unknown name.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(
            f"Expected metrics out of {', '.join(NAMES)}, but got {unknown[0]!r}. "
            "Correct the name."
        )
    import torch  # noqa: PLC0415 (the names alone need none)

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import pyiqa  # noqa: PLC0415 (an extra, and slow to import)
    except ImportError as error:
        if error.name != "pyiqa":
            raise
        raise ImportError(
            "Expected pyiqa for --pyiqa, but it is not installed. Install it with "
            "`pip install 'paragon-archs[metrics]'`.",
            name="pyiqa",
        ) from error
    # It logs each try to download; set after the import, which sets its own level.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    found: dict[str, Callable[[Tensor, Tensor], float]] = {}
    failed: dict[str, str] = {}
    for name in names:
        silence = io.StringIO()
        try:
            with (
                contextlib.redirect_stdout(silence),
                contextlib.redirect_stderr(silence),
            ):
                metric = pyiqa.create_metric(NAMES[name], device=torch.device(device))
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            failed[name] = (
                "its weights are not on this machine and could not be fetched "
                f"({type(error).__name__}: {reason})"
            )
            continue
        found[f"pyiqa_{name}"] = _measure(metric, device)
    return found, failed


def _measure(
    metric: Callable[[Tensor, Tensor], Tensor], device: str
) -> Callable[[Tensor, Tensor], float]:
    import torch  # noqa: PLC0415

    def measure(image: Tensor, reference: Tensor) -> float:
        with torch.inference_mode():
            a = (image[None].float() / 255).to(device)
            b = (reference[None].float() / 255).to(device)
            return float(metric(a, b))

    return measure
