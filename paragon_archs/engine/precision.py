"""Mixed precision that falls back where a device lacks it."""

from __future__ import annotations

import contextlib
import logging

import torch
from torch import nn

from ..utils.dtypes import DTYPES, dtype_of

logger = logging.getLogger("basicsr")


class Precision:
    """Autocast and, for fp16, loss scaling.

    Args:
        name: fp32, bf16 or fp16.
        device: Where the network computes.

    Raises:
        ValueError: for another name.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in DTYPES:
            raise ValueError(
                f"Expected precision to be one of {', '.join(DTYPES)}, but got "
                f"{name!r}. Choose one of them."
            )
        self.device = device
        self.name = name
        if name != "fp32" and not supports(device, dtype_of(name)):
            logger.warning(
                "train:precision %s: this device (%s) cannot train in it; using fp32.",
                name,
                device.type,
            )
            self.name = "fp32"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Returns the context of a forward pass."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype_of(self.name))


def set_up_products(device: torch.device, precision: str) -> None:
    """Lets a GPU multiply float32 as quickly as `precision` allows.

    cuDNN tries its algorithms once per size, and training has one. A CPU computes as
    before.

    Args:
        device: Where the network trains.
        precision: highest, high or medium, as torch names them.
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    torch.backends.cudnn.benchmark = True


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """True when a convolution and its gradient run in `dtype` on `device`."""
    if device.type == "cuda" and dtype is torch.bfloat16:
        # Emulated bf16 runs everywhere, and is slower than fp32.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        with torch.random.fork_rng(), torch.autocast(device.type, dtype):
            convolution = nn.Conv2d(1, 1, 3, padding=1).to(device)
            convolution(torch.ones(1, 1, 4, 4, device=device)).sum().backward()
    except RuntimeError:
        return False
    return True
