"""What the deploy forms share: a network made of folded weights, used for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .onednn import channels_last
from .ops import fast


class Folded(nn.Module):
    """A part whose weights are folded in float64 and kept in the network's dtype."""

    if TYPE_CHECKING:  # buffers are registered by name; to a checker each is a tensor

        def __getattr__(self, name: str) -> Any: ...

    def keep(
        self, name: str, value: Tensor, like: Tensor, off_cpu: bool = False
    ) -> None:
        """Registers `value`, float64, in the dtype and on the device of `like`.

        What is `off_cpu` is a second form of other weights, for devices that want it.
        """
        kept = value.to(like.dtype).to(like.device).contiguous()
        self.register_buffer(name, kept, persistent=not off_cpu)


def exact(tensor: Tensor | None) -> Tensor:
    """Returns a weight in float64 on the CPU, to fold with."""
    assert tensor is not None
    return tensor.detach().cpu().double()  # not every device has float64


def column(values: Tensor) -> Tensor:
    """Returns one value per channel (C) in a shape that scales (C, ...) kernels."""
    return values.flatten().view(-1, 1, 1, 1)


class DeployNetwork(Folded):
    """A network in deploy form; a subclass writes `run`.

    Attributes:
        scale: Upscaling factor.
        hyperparameters: Those of the network that it was made from.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.hyperparameters: dict[str, Any] = dict(vars(model)["hyperparameters"])
        self.scale: int = self.hyperparameters["scale"]

    def run(self, x: Tensor) -> Tensor:
        """Upscales (B, C, H, W); B is 1 where `fast`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        """Upscales (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        if fast(x):
            images = [self.run(channels_last(image)) for image in x.split(1)]
            return images[0] if len(images) == 1 else torch.cat(images)
        return self.run(x)
