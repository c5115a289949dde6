"""Real-ESRGAN's degradations through BasicSR's own code, on any device.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data", 2021. BasicSR keeps the pipeline inside a model class that wants a
GPU; here it runs as a part of any model, and its pool of pairs can be saved.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.utils import DiffJPEG, USMSharp
from torch import Tensor

from ..config.sections.degradation import DegradationSection

HALF_KERNEL = 10  # the blur mirrors as many pixels at each border


@dataclass(frozen=True)
class DegradedPairs:
    """A batch: the degraded side, and the targets of the losses and of the GAN."""

    lq: Tensor
    loss_gt: Tensor
    gan_gt: Tensor


class _Jpeg(DiffJPEG):
    """Answers in the layout that the host's next filter takes; its own is permuted."""

    def forward(self, x: Tensor, quality: object) -> Tensor:
        return super().forward(x, quality).contiguous()


@torch.no_grad()
def dequeue_and_enqueue(self: Any) -> None:
    """Mixes this batch with earlier ones, so that degradations differ within a batch.

    A pool of `queue_size` pairs; once it is full, each batch takes the place of random
    pairs, which are trained on instead. The host's own keeps it on a GPU always.
    """
    batch = self.lq.shape[0]
    if not hasattr(self, "queue_lr"):
        if self.queue_size % batch:
            raise ValueError(
                f"Expected queue_size to be a multiple of the batch size ({batch}), "
                f"but got {self.queue_size}. Give queue_size: {batch * 10}."
            )
        self.queue_lr = self.lq.new_zeros(self.queue_size, *self.lq.shape[1:])
        self.queue_gt = self.gt.new_zeros(self.queue_size, *self.gt.shape[1:])
        self.queue_ptr = 0
    if self.queue_ptr < self.queue_size:
        place = slice(self.queue_ptr, self.queue_ptr + batch)
        self.queue_lr[place], self.queue_gt[place] = self.lq, self.gt
        self.queue_ptr += batch
        return
    chosen = random.sample(range(self.queue_size), batch)
    old_lq, old_gt = self.queue_lr[chosen], self.queue_gt[chosen]
    self.queue_lr[chosen], self.queue_gt[chosen] = self.lq, self.gt
    self.lq, self.gt = old_lq, old_gt


class _Degrader(RealESRGANModel):
    """The host's model without its networks: what is left degrades batches."""

    _dequeue_and_enqueue = dequeue_and_enqueue

    lq: Tensor
    gt: Tensor
    gt_usm: Tensor
    queue_lr: Tensor
    queue_gt: Tensor
    queue_ptr: int

    def __init__(self, opt: dict[str, Any], device: torch.device) -> None:
        self.opt, self.device, self.is_train = opt, device, True
        self.queue_size = int(opt["queue_size"])
        self.jpeger = _Jpeg(differentiable=False).to(device)
        self.usm_sharpener = USMSharp().to(device)


class Degradation:
    """BasicSR's two-fold degradation of high-resolution crops.

    Args:
        options: The section `degradation`: the ranges and probabilities of BasicSR's
            Real-ESRGAN options, under their names.
        scale: Upscaling factor.
        gt_size: Side of the crops that are trained on.
        crop_size: Side of the crops that are degraded.
        device: Where it runs.

    Raises:
        ValueError: when the crops can be downscaled below what the blur kernels need.
    """

    def __init__(
        self,
        options: DegradationSection,
        scale: int,
        gt_size: int,
        crop_size: int,
        device: torch.device,
    ) -> None:
        least = min(crop_size * min(1, options.resize_range[0]), crop_size // scale)
        if least <= HALF_KERNEL:
            raise ValueError(
                f"Expected crops to stay over {HALF_KERNEL} pixels while they are "
                f"degraded, but got crop_size {crop_size}, which is downscaled to "
                f"{least:g}. Raise crop_size, or the lower end of "
                "degradation:resize_range."
            )
        self.options = options
        self.degrader = _Degrader(
            {**vars(options), "scale": scale, "gt_size": gt_size}, device
        )

    def __call__(self, data: Mapping[str, Any]) -> DegradedPairs:
        """Degrades a batch of the host's `RealESRGANDataset` (crops and kernels)."""
        made = self.degrader
        made.feed_data(data)
        return DegradedPairs(
            made.lq,
            made.gt_usm if self.options.loss_gt_usm else made.gt,
            made.gt_usm if self.options.gan_gt_usm else made.gt,
        )

    def state_dict(self) -> dict[str, object]:
        """Returns the pool of pairs, in 8 bits, which is what its images have."""
        made = self.degrader
        if not hasattr(made, "queue_lr"):
            return {}
        return {
            "lr": _to_bytes(made.queue_lr),
            "gt": _to_bytes(made.queue_gt),
            "filled": made.queue_ptr,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the pool back."""
        if state:
            made = self.degrader
            made.queue_lr = _from_bytes(state["lr"], made.device)
            made.queue_gt = _from_bytes(state["gt"], made.device)
            made.queue_ptr = state["filled"]


def _to_bytes(x: Tensor) -> Tensor:
    return x.mul(255).round().to("cpu", torch.uint8)


def _from_bytes(x: Tensor, device: torch.device) -> Tensor:
    # As images are read: a division, whose result a product would miss by one bit.
    return x.to(device, torch.float32) / 255
