"""The head of ParagonSR and ParagonSR2 in training: merged, and fitted.

Nothing non-linear stands between the head's two convolutions. As one convolution at
low resolution they cost a third of a step less at scale 2 and two thirds at scale 4,
with the same gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs.paragonsr2_arch import ParagonSR2
from ..archs.paragonsr_arch import ParagonSR
from ..deploy.head import merged_kernel

RIDGE = 1e-3  # price of the fitted weights, relative to the features' mean square


def check_head(network: nn.Module, key: str) -> None:
    """Holds a network to those whose head this file knows.

    Raises:
        ValueError: for any other.
    """
    if not isinstance(network, (ParagonSR, ParagonSR2)):
        raise ValueError(
            f"Expected network_g to be a ParagonSR or a ParagonSR2 for {key}, but got "
            f"{type(network).__name__!r}. Remove {key}."
        )


def features_of(network: Any, x: Tensor) -> Tensor:
    """Returns what the head sees, (B, F, H, W)."""
    shallow = network.conv_in(x)
    if isinstance(network, ParagonSR2):
        return network.conv_mid(network.body(shallow).to(shallow.dtype))
    return network.conv_fuse(network.body(shallow)) + shallow


def _up(network: Any) -> Any:
    up = network.up if isinstance(network, ParagonSR2) else network.upsampler
    return up[0]


def merge_head(network: nn.Module) -> None:
    """Lets a network compute its head as one convolution, in place.

    Parameters and their names stay, so that files do not change. The result differs at
    the outermost output pixels, where `conv_out` pads with zeros.

    Raises:
        ValueError: for a network without such a head.
    """
    check_head(network, "train:merge_head")
    network.forward = functools.partial(_merged_forward, network)


def split_head(network: nn.Module) -> None:
    """Undoes `merge_head`, in place."""
    vars(network).pop("forward", None)


def _merged_forward(network: Any, x: Tensor) -> Tensor:
    up, out, scale = _up(network), network.conv_out, network.scale
    features = features_of(network, x)
    with torch.autocast(x.device.type, enabled=False):
        weight, bias = merged_kernel(up.weight, up.bias, out.weight, out.bias, scale)
        if isinstance(network, ParagonSR2):
            weight, bias = weight * network.detail_gain, bias * network.detail_gain
    cells = F.conv2d(features, weight, bias, padding=2)
    detail = F.pixel_shuffle(cells, scale)
    if not isinstance(network, ParagonSR2):
        return detail
    with torch.autocast(x.device.type, enabled=False):
        return network.base(x) + detail


@torch.no_grad()
def fit_head(
    network: Any, batches: Iterable[tuple[Tensor, Tensor]], margin: int = 2
) -> None:
    """Gives the head the least-squares answer for the features as they are, in place.

    `conv_out` then passes the first channels on, so that `conv_up` alone is a linear
    regression of the target's pixels on 3 x 3 features; its other channels keep their
    random weights, which `conv_out` has to find a use for.

    Args:
        network: A ParagonSR or a ParagonSR2.
        batches: (input, target) crops; some hundred thousand pixels altogether.
        margin: Low-resolution pixels at each border that are left out.

    Raises:
        ValueError: for another network.
    """
    check_head(network, "train:fit_head")
    has_base = isinstance(network, ParagonSR2)
    gram = moment = torch.zeros(())
    for x, target in batches:
        features = features_of(network, x).float()
        wanted = target - network.base(x) if has_base else target
        wanted = F.pixel_unshuffle(wanted, network.scale)
        inner, around = _shaved(wanted, margin), _shaved(features, margin - 1)
        columns = F.unfold(around, 3).transpose(1, 2).flatten(0, 1).double()
        columns = F.pad(columns, (0, 1), value=1.0)  # the bias
        goals = inner.permute(0, 2, 3, 1).flatten(0, 2).double()
        gram = gram + columns.mT @ columns
        moment = moment + columns.mT @ goals
    # Fresh features say nearly the same: without a price on large weights they get
    # those, thirty times the usual, and a picture's border comes out as noise.
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    solution = torch.linalg.solve(gram + ridge, moment).mT  # (C * s^2, 9 F + 1)
    up, out = _up(network), network.conv_out
    rows = len(solution)
    if has_base:
        # The gain takes the scale, so that the weights are as large as fresh ones: a
        # step of the optimizer then means as much to them.
        network.detail_gain.copy_(solution[:, :-1].std() / up.weight.std())
        solution = solution / network.detail_gain
    up.weight[:rows] = solution[:, :-1].view_as(up.weight[:rows])
    up.bias[:rows] = solution[:, -1]
    out.weight.zero_()
    out.bias.zero_()
    for channel in range(out.out_channels):
        out.weight[channel, channel, 1, 1] = 1


def _shaved(x: Tensor, border: int) -> Tensor:
    return x[..., border:-border, border:-border] if border else x
