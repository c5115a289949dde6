"""Which device and which dtype a name means."""

from __future__ import annotations

import torch
from spandrel import ImageModelDescriptor
from torch import nn

from ..utils.dtypes import DTYPES, dtype_of
from .backends import GraphModel


def pick_device(name: str | torch.device) -> torch.device:
    """Returns the device that `name` means; `auto` is the fastest there is.

    Raises:
        ValueError: for an unknown device or one that is not there.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = getattr(torch.backends, "mps", None)
        return torch.device("mps" if mps and mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # some hold no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"Expected the device to be auto, cpu, cuda, cuda:N or mps, and to be "
            f"there, but got {name!r} ({str(error).splitlines()[0]}). Use --device cpu."
        ) from error
    return device


def pick_dtype(
    name: str,
    device: torch.device,
    model: ImageModelDescriptor[nn.Module] | GraphModel,
) -> torch.dtype:
    """Returns the dtype that `name` means for a network on a device.

    Raises:
        ValueError: for an unknown name, or a dtype that the network does not allow.
    """
    if name == "auto":
        half = device.type == "cuda" and model.supports_half
        return torch.float16 if half else torch.float32
    if name not in DTYPES:
        raise ValueError(
            f"Expected dtype to be auto, {', '.join(DTYPES)}, but got {name!r}. Choose "
            "one of these."
        )
    allowed = {"fp16": model.supports_half, "bf16": model.supports_bfloat16}
    if not allowed.get(name, True):
        raise ValueError(
            f"Expected a dtype that {model.architecture.name} allows, but got {name!r}."
            " Use fp32."
        )
    return dtype_of(name)
