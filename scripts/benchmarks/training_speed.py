"""How much faster a training step is than in the form the network was published in."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paragon_archs.archs import create
from paragon_archs.archs.paragonsr_arch import GatedFFN, LayerScale, ReparamConv


class _PermutedLayerScale(nn.Module):
    """LayerScale by way of channels-last and back, three passes over the features."""

    def __init__(self, gamma: nn.Parameter) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + (branch.permute(0, 2, 3, 1) * self.gamma).permute(0, 3, 1, 2)


class _SeparateBranches(nn.Module):
    """Three convolutions and two sums where ours folds the kernels."""

    def __init__(self, block: ReparamConv) -> None:
        super().__init__()
        self.conv3x3 = block.conv3x3
        self.conv1x1 = block.conv1x1
        self.dw_conv3x3 = block.dw_conv3x3

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3x3(x) + self.conv1x1(x) + self.dw_conv3x3(x)


class _PublishedFFN(GatedFFN):
    """The feed-forward with torch's mish and a product, as published."""

    def forward(self, x: Tensor) -> Tensor:
        gate = F.mish(self.spatial_mixer(self.project_in_g(x)))
        return self.project_out(gate * self.project_in_i(x))


def unfolded(model: nn.Module) -> nn.Module:
    """Returns a ParagonSR that computes the same as it was published:
    separate branches, torch's mish, a permuting LayerScale.

    The parameters keep their names and values, so gradients can be compared by name.
    """
    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LayerScale):
                setattr(parent, name, _PermutedLayerScale(child.gamma))
            elif isinstance(child, ReparamConv):
                setattr(parent, name, _SeparateBranches(child))
            elif isinstance(child, GatedFFN):
                child.__class__ = _PublishedFFN  # the same layers, another forward
    return plain


def gradients(model: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Returns the L1 loss's gradient for every parameter, by name."""
    model.zero_grad(set_to_none=True)
    F.l1_loss(model(x), target).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@dataclass(frozen=True)
class StepSpeed:
    """Medians of one training step, in seconds, and how far gradients differ."""

    published: float
    folded: float
    folded_channels_last: float
    gradient_error: float


def alternate(
    candidates: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Times candidates in turn, A B C A B C ..., after one warm-up of each.

    Returns:
        Seconds per call of every candidate, in the order of the rounds.
    """
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def measure_step(
    variant: str = "paragonsr_s",
    scale: int = 4,
    batch: int = 4,
    size: int = 32,
    rounds: int = 9,
) -> StepSpeed:
    """Times forward and backward of a ParagonSR against its published computation.

    Args:
        variant: A ParagonSR variant.
        scale: Upscaling factor.
        batch: Images in a step.
        size: Side of the low-resolution patch, in pixels.
        rounds: Measured steps of each form; they take turns.
    """
    generator = torch.Generator().manual_seed(0)
    model = create(variant, scale)
    x = torch.rand((batch, 3, size, size), generator=generator)
    target = torch.rand((batch, 3, size * scale, size * scale), generator=generator)
    plain, double = unfolded(model), copy.deepcopy(model).double()
    wanted = gradients(unfolded(double), x.double(), target.double())
    got = gradients(double, x.double(), target.double())
    error = max(
        float((got[n] - g).abs().max() / g.abs().max().clamp_min(1e-300))
        for n, g in wanted.items()
    )
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x_last = x.to(memory_format=torch.channels_last)
    seconds = alternate(
        {
            "published": lambda: gradients(plain, x, target),
            "folded": lambda: gradients(model, x, target),
            "last": lambda: gradients(last, x_last, target),
        },
        rounds,
    )
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return StepSpeed(middle["published"], middle["folded"], middle["last"], error)
