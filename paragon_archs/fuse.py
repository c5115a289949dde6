"""Training form to fused form: parallel branches become one convolution."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn


def fuse_model(model: nn.Module) -> nn.Module:
    """Returns a copy of `model` in which every reparameterizable block is fused.

    A block is reparameterizable when it has a method `fuse() -> nn.Conv2d` (the
    contract that timm's `reparameterize_model` uses too). Sums are taken in float64,
    then stored in the model's dtype and on its device; training mode and
    `requires_grad` stay as they are. A fused model comes back as a plain copy.

    Args:
        model: Any network; without reparameterizable blocks nothing changes.

    Returns:
        A new module that computes the same function; `model` is left alone.
    """
    fused = copy.deepcopy(model)
    for parent in list(fused.modules()):
        for name, child in list(parent.named_children()):
            fuse = _fuse_method(child)
            if fuse is not None:
                conv = fuse()
                setattr(parent, name, conv.train(child.training))
    return fused


def is_fused(model: nn.Module) -> bool:
    """Whether no block of `model` is left to fuse."""
    return not any(_fuse_method(m) for m in model.modules())


def _fuse_method(module: nn.Module) -> Callable[[], nn.Module] | None:
    """Returns `module.fuse`, unless that is a layer of that name or absent."""
    fuse = getattr(module, "fuse", None)
    return None if fuse is None or isinstance(fuse, nn.Module) else fuse
