"""Gradient checkpointing of any network: repeated blocks are recomputed, not kept."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint

logger = logging.getLogger("basicsr")


@contextlib.contextmanager
def plain_form(network: nn.Module) -> Iterator[None]:
    """Lets a network compute as its file does, without what training changed in it.

    Recomputed blocks, a merged head and fast gradients are forwards of single modules.
    """
    changed = {
        module: vars(module).pop("forward")
        for module in network.modules()
        if "forward" in vars(module)
    }
    try:
        yield
    finally:
        for module, forward in changed.items():
            module.forward = forward


def repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the outermost blocks that a network repeats.

    Blocks stand in a Sequential or a ModuleList, two or more of one class that is not
    torch's own. What lies inside of a block is recomputed with it.
    """
    for child in network.children():
        blocks = list(child.children())
        listed = isinstance(child, (nn.Sequential, nn.ModuleList))
        own = all(not type(b).__module__.startswith("torch.") for b in blocks)
        if listed and len(blocks) > 1 and len({type(b) for b in blocks}) == 1 and own:
            yield from blocks
        else:
            yield from repeated_blocks(child)


def checkpoint_blocks(network: nn.Module) -> int:
    """Lets every repeated block recompute its inside in the backward pass, in place.

    Names of parameters, results and gradients stay what they are; each block costs its
    forward pass once more.

    Returns:
        How many blocks.
    """
    count = 0
    for block in repeated_blocks(network):
        block.forward = functools.partial(
            checkpoint, block.forward, use_reentrant=False
        )
        count += 1
    if count:
        logger.info("Gradient checkpointing of %d blocks.", count)
    else:
        logger.warning(
            "train:grad_checkpointing: %s repeats no blocks; nothing is recomputed.",
            type(network).__name__,
        )
    return count
