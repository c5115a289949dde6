"""Real-ESRGAN's degradations on machines that the host did not think of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import MSELoss

from ...engine.degradation import dequeue_and_enqueue

__all__ = ["MSELoss", "dequeue_and_enqueue", "on_its_device", "whole_quality"]


def whole_quality(own: Callable[..., object]) -> Callable[..., object]:
    """Wraps `add_jpg_compression`: its quality is rounded."""

    def add_jpg_compression(img: object, quality: float = 90) -> object:
        return own(img, round(quality))

    return add_jpg_compression


def on_its_device(kind: type[nn.Module]) -> type[nn.Module]:
    """Wraps a module's class: `.cuda()` leaves it on the CPU where there is no GPU."""

    class OnItsDevice(kind):
        def cuda(self, device: int | torch.device | None = None) -> nn.Module:
            return super().cuda(device) if torch.cuda.is_available() else self

        def forward(self, *arguments: object, **options: object) -> torch.Tensor:
            # JPEG's result is permuted; the host's blur wants it in a row.
            return super().forward(*arguments, **options).contiguous()

    return OnItsDevice
