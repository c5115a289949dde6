"""Every optimizer that torch has, by its name in the option file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: entry
    for name, entry in vars(torch.optim).items()
    if inspect.isclass(entry)
    and issubclass(entry, torch.optim.Optimizer)
    # LBFGS wants a closure that computes the loss several times in one step.
    and entry not in (torch.optim.Optimizer, torch.optim.LBFGS)
}


def build_optimizer(
    kind: str, params: Iterable[nn.Parameter], **arguments: Any
) -> torch.optim.Optimizer:
    """Returns the optimizer called `kind`.

    Args:
        kind: A class of `torch.optim`.
        params: What it updates.
        **arguments: Its own arguments, `lr` among them.

    Raises:
        ValueError: when torch has no such optimizer, or a value is out of range.
        TypeError: for an argument that it does not have.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(
            f"Expected the optimizer's type to be one of {', '.join(OPTIMIZERS)}, but "
            f"got {kind!r}. Choose one of them."
        )
    return OPTIMIZERS[kind](params, **arguments)
