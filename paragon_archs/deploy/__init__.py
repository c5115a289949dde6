"""The deploy form: the same function, far less arithmetic. In memory only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from ..fuse import fuse_model
from .base import DeployNetwork
from .call import DeployCall
from .facesr import FaceDeploy
from .fusionsr import FusionDeploy
from .paragonsr import ParagonDeploy
from .paragonsr2 import ParagonDeploy2
from .resshuffle import ResShuffleDeploy

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

FORMS: dict[str, Callable[[Any], nn.Module]] = {
    "ParagonSR": ParagonDeploy,
    "ParagonSR2": ParagonDeploy2,
    "FusionSR": FusionDeploy,
    "ResShuffle": ResShuffleDeploy,
    "FaceSR": FaceDeploy,
}
"""Class of a network -> its deploy form."""


def deploy_model(model: nn.Module | ImageModelDescriptor[nn.Module]) -> nn.Module:
    """Returns the deploy form of a network, for inference and for exporters.

    Linear layers in a row become one, scales go into the weights before them, and
    where torch offers it on a CPU in float32 the steps run fused. The picture is the
    network's own, border included. Folding is done in float64, then stored in the
    model's dtype and on its device.

    Args:
        model: A network of this pack, training or fused form, or a descriptor that
            holds one; it is left alone. A network without a deploy form of its own
            comes back as a fused copy.

    Returns:
        A module in evaluation mode, without gradients, that is called as the network
        is. `.to()`, `.half()` and `.bfloat16()` work on it.
    """
    network = model if isinstance(model, nn.Module) else model.model
    if isinstance(network, DeployNetwork):
        return copy.deepcopy(network)
    fused = fuse_model(network).eval().requires_grad_(False)
    form = FORMS.get(type(network).__name__)
    return fused if form is None else form(fused).eval().requires_grad_(False)


__all__ = ["DeployCall", "DeployNetwork", "deploy_model"]
