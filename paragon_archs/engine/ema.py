"""Exponential moving average of weights AND buffers, with a decay that warms up."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """Follows a network: `average = decay * average + (1 - decay) * network`.

    Args:
        network: Whose weights are followed (unwrapped, uncompiled).
        decay: Weight of the past, 0 to 1.
        warmup: Whether the decay of update n is at most (1 + n) / (10 + n), so that
            the average forgets the fresh weights soon (as in TensorFlow's
            ExponentialMovingAverage).
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def restart(self, network: nn.Module) -> None:
        """Begins again with the present weights of `network`."""
        self.updates = 0
        follow_weights(self.network, network, 0.0)
        follow_buffers(self.network, network)

    def next_decay(self) -> float:
        """Returns the decay of the next update."""
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes one step towards `network`.

        Buffers are copied: a running mean is an average already, and the host's
        average of a network with batch norm keeps the statistics of step 0 for ever.
        """
        decay = self.next_decay()
        self.updates += 1
        follow_weights(self.network, network, decay)
        follow_buffers(self.network, network)


@torch.no_grad()
def follow_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the weights of `average` towards those of `network`."""
    own: list[Tensor] = [p.detach() for p in average.parameters()]
    other: list[Tensor] = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(own, other, 1 - decay)  # type: ignore[attr-defined]


@torch.no_grad()
def follow_buffers(average: nn.Module, network: nn.Module) -> None:
    """Copies every buffer of `network` into `average`."""
    for own, other in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(other)
