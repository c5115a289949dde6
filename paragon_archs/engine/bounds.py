"""What a `FeatureBoundLoss` needs of a network: its features, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..losses.feature_bound_loss import FeatureBoundLoss


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the innermost modules that a network repeats.

    They stand in a Sequential or a ModuleList, all of one class that is not torch's
    own, and hold no such list themselves.
    """
    for child in network.children():
        parts = list(child.children())
        listed = isinstance(child, (nn.Sequential, nn.ModuleList))
        own = all(not type(p).__module__.startswith("torch.") for p in parts)
        if listed and parts and own and len({type(p) for p in parts}) == 1:
            inner = list(blocks_of(child))
            yield from inner or parts
        else:
            yield from blocks_of(child)


def bounded(
    network: nn.Module, loss: FeatureBoundLoss, lq: Tensor, current_iter: int
) -> Tensor:
    """Returns the mean cost of the step's drawn pictures; keeps the worst for the next.

    Args:
        network: Unwrapped.
        loss: Whose limits and pictures.
        lq: The step's own input.
        current_iter: The iteration, from 1.

    Raises:
        ValueError: when the network repeats no blocks.
    """
    seen: list[Tensor] = []
    blocks = list(blocks_of(network))
    if not blocks:
        raise ValueError(
            "Expected a network with repeated blocks for FeatureBoundLoss, but got "
            f"{type(network).__name__}. Remove that loss."
        )

    def keep(_: nn.Module, __: object, features: Tensor) -> None:
        seen.append(features)

    hooks = [block.register_forward_hook(keep) for block in blocks]
    x = loss.pictures(lq, current_iter)
    if lq.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    try:
        output = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    costs = loss(seen, output)
    # By an index on the device, which nobody waits for.
    loss.worst = x.index_select(0, costs.argmax()[None]).detach()
    return costs.mean()
