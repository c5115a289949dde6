"""Between a picture's channels and those of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Channels:
    """What a picture becomes for a network, and its result for the picture.

    Attributes:
        given: Of the picture: 1 or 3.
        wanted: Of the network.
    """

    given: int
    wanted: int

    @property
    def batch(self) -> int:
        """Images side by side: to a gray network each color is one of its own."""
        return self.given if self.wanted == 1 else 1

    def widen(self, x: Tensor) -> Tensor:
        """Turns (1, given, H, W) into (batch, wanted, H, W)."""
        if self.wanted == self.given:
            return x
        if self.wanted == 1:
            return x.transpose(0, 1)
        x = x.expand(-1, 3, -1, -1)
        opaque = torch.ones_like(x[:, :1])
        return torch.cat((x, opaque), 1)[:, : self.wanted]

    def narrow(self, y: Tensor) -> Tensor:
        """Turns (batch, wanted, H, W) into (1, given, H, W)."""
        if self.wanted == self.given:
            return y
        if self.wanted == 1:
            return y.transpose(0, 1)
        y = y[:, :3]
        return y.mean(1, keepdim=True) if self.given == 1 else y
