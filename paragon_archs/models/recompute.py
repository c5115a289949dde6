"""Gradient checkpointing: blocks forget their activations and compute them again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(net: nn.Module) -> int:
    """Makes every block of a network recompute its activations in the backward pass.

    Blocks are the members of the outermost rows (`Sequential`, `ModuleList`) that hold
    several modules with sub-modules. Names of weights stay, and gradients are the same
    (random numbers of the forward are replayed).

    Args:
        net: Any network; changed in place.

    Returns:
        The number of blocks.

    Raises:
        ValueError: when the network has no such row.
    """
    blocks = _blocks(net)
    if not blocks:
        raise ValueError(
            f"Expected a network with a row of blocks for train:grad_checkpointing, "
            f"but got {type(net).__name__}, which has none. Set it to false."
        )
    for block in blocks:
        # Bound to the block, so that a copy of the network binds to the copy's block.
        block.forward = functools.partial(_recomputed, block.forward)
    return len(blocks)


def _blocks(net: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in net.children():
        row = isinstance(child, (nn.Sequential, nn.ModuleList))
        large = [m for m in child.children() if any(True for _ in m.children())]
        if row and len(large) > 1:
            found += large
        else:
            found += _blocks(child)
    return found


def _recomputed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
