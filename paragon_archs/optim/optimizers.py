"""Every optimizer that torch has, and SOAP, by its name in the option file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .soap import SOAP

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: entry
    for name, entry in vars(torch.optim).items()
    if inspect.isclass(entry)
    and issubclass(entry, torch.optim.Optimizer)
    # LBFGS wants a closure that computes the loss several times in one step.
    and entry not in (torch.optim.Optimizer, torch.optim.LBFGS)
} | {"SOAP": SOAP}


def build_optimizer(
    kind: str, params: Iterable[nn.Parameter], **arguments: Any
) -> torch.optim.Optimizer:
    """Returns the optimizer called `kind`.

    Args:
        kind: A class of `torch.optim`.
        params: What it updates.
        **arguments: Its own arguments, `lr` among them.

    Raises:
        ValueError: when torch has no such optimizer, it cannot train the weights of a
            convolution, or a value is out of range.
        TypeError: for an argument that it does not have.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(
            f"Expected the optimizer's type to be one of {', '.join(OPTIMIZERS)}, but "
            f"got {kind!r}. Choose one of them."
        )
    _try(kind, arguments)
    return OPTIMIZERS[kind](params, **arguments)


def _try(kind: str, arguments: dict[str, Any]) -> None:
    """Lets an optimizer step on a small convolution, on the CPU.

    Some take sparse gradients, or matrices alone, and say so in the first step only.
    """
    weight = nn.Parameter(torch.ones(1, 1, 3, 3))
    weight.grad = torch.ones_like(weight)
    own = {k: v for k, v in arguments.items() if k not in ("fused", "capturable")}
    try:
        with torch.random.fork_rng(devices=[]):
            OPTIMIZERS[kind]([weight], **own).step()
    except RuntimeError as error:
        raise ValueError(
            f"Expected an optimizer that trains the weights of convolutions, but got "
            f"{kind!r}: {' '.join(str(error).split())}. Choose AdamW, say."
        ) from error
