"""Real-ESRGAN's degradations; names and defaults are those of BasicSR's options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..key import Section, key
from .models import GAN


def _share(text: str, default: float) -> Any:
    return key(text, default, model=GAN, low=0, high=1)


def _resizes(text: str, *default: float) -> Any:
    return key(text, [*default], model=GAN, low=0, high=1, length=3)


def _range(text: str, least: float, most: float, low: float, high: float) -> Any:
    return key(text, [least, most], model=GAN, low=low, high=high, length=2)


@dataclass(frozen=True)
class DegradationSection(Section):
    """The section `degradation`; names that end in 2 are of the second pass."""

    gt_size: int | None = key(
        "side of the crops that are trained on; the data set's `gt_size` when absent",
        None,
        model=GAN,
        low=1,
        high=2**15,
    )
    queue_size: int = key(
        "pairs that a batch is mixed with; a multiple of it",
        180,
        model=GAN,
        low=1,
        high=2**20,
    )
    resize_prob: Sequence[float] = _resizes(
        "how often the first resize goes up, down, keeps", 0.2, 0.7, 0.1
    )
    resize_range: Sequence[float] = _range(
        "range of the first resize", 0.15, 1.5, 0.01, 100
    )
    gaussian_noise_prob: float = _share(
        "share of Gaussian noise; the rest is Poisson", 0.5
    )
    noise_range: Sequence[float] = _range("Gaussian noise, of 255", 1, 30, 0, 255)
    poisson_scale_range: Sequence[float] = _range("Poisson noise", 0.05, 3, 0, 255)
    gray_noise_prob: float = _share("share of gray noise", 0.4)
    jpeg_range: Sequence[float] = _range("JPEG quality", 30, 95, 1, 100)
    second_blur_prob: float = _share("share of a second blur", 0.8)
    resize_prob2: Sequence[float] = _resizes(
        "how often the second resize goes up, down, keeps", 0.3, 0.4, 0.3
    )
    resize_range2: Sequence[float] = _range(
        "range of the second resize", 0.3, 1.2, 0.01, 100
    )
    gaussian_noise_prob2: float = _share(
        "share of Gaussian noise; the rest is Poisson, second time", 0.5
    )
    noise_range2: Sequence[float] = _range(
        "Gaussian noise, of 255, second time", 1, 25, 0, 255
    )
    poisson_scale_range2: Sequence[float] = _range(
        "Poisson noise, second time", 0.05, 2.5, 0, 255
    )
    gray_noise_prob2: float = _share("share of gray noise, second time", 0.4)
    jpeg_range2: Sequence[float] = _range("JPEG quality, second time", 30, 95, 1, 100)
    loss_gt_usm: bool = key("sharpen the targets of the losses", True, model=GAN)
    gan_gt_usm: bool = key(
        "sharpen what the discriminators see as real", False, model=GAN
    )
