"""The loss list of an option file: weights, first iterations and ramps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from basicsr.losses import build_loss
from torch import Tensor, nn

from ..config.sections.training import LossSection, TrainSection


class Criterion(nn.Module):
    """One loss, with its weight over the iterations.

    Args:
        loss: Module called with (output, target); returns a scalar, or several parts
            in a tuple as the host's perceptual loss does.
        name: Name in logs, after `l_`.
        weight: Factor.
        start_iter: Iterations after which it begins to count.
        ramp_iter: Iterations over which the factor then grows linearly from 0.
    """

    def __init__(
        self,
        loss: nn.Module,
        name: str,
        weight: float = 1.0,
        start_iter: int = 0,
        ramp_iter: int = 0,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.name = name
        self.weight = weight
        self.start_iter = start_iter
        self.ramp_iter = ramp_iter

    def weight_at(self, current_iter: int) -> float:
        """Returns the factor at iteration `current_iter` (from 1)."""
        passed = current_iter - self.start_iter
        if passed <= 0:
            return 0.0
        return self.weight * min(1.0, passed / max(1, self.ramp_iter))

    def forward(
        self, output: Tensor, target: Tensor, current_iter: int
    ) -> dict[str, Tensor]:
        """Returns the weighted parts by name; nothing where the factor is 0."""
        factor = self.weight_at(current_iter)
        if factor == 0:
            return {}
        value = self.loss(output, target)
        if isinstance(value, tuple):
            names = [f"l_{self.name}", f"l_{self.name}_style"]
            parts = dict(zip(names, value, strict=False))
            return {n: v * factor for n, v in parts.items() if v is not None}
        return {f"l_{self.name}": value * factor}


def build_criteria(train: TrainSection) -> nn.ModuleList:
    """Builds every loss of `train:losses` and of the host's own sections.

    Args:
        train: The section `train`.

    Returns:
        `Criterion`s, the host's first, with distinct names.

    Raises:
        ValueError: when there is none.
    """
    sections = [
        LossSection.read({"name": name, **section.as_dict()})
        for section, name in (
            (train.pixel_opt, "pix"),
            (train.perceptual_opt, "percep"),
        )
        if section is not None  # of the host's files, under the names that it logs
    ]
    sections += train.losses or ()
    if not sections:
        raise ValueError(
            "Expected at least one loss, but got none. Give train:pixel_opt or "
            "train:losses."
        )
    criteria: list[Criterion] = []
    for section in sections:
        name = _distinct(
            section.name or section.type.removesuffix("Loss").lower(),
            [c.name for c in criteria],
        )
        loss = build_loss(section.as_dict())
        criteria.append(
            Criterion(loss, name, section.weight, section.start_iter, section.ramp_iter)
        )
    return nn.ModuleList(criteria)


def _distinct(name: str, taken: Sequence[str]) -> str:
    number = 1
    result = name
    while result in taken:
        number += 1
        result = f"{name}{number}"
    return result


def total_of(losses: Mapping[str, Tensor]) -> Tensor:
    """Returns the sum of all losses."""
    return torch.stack([v.mean() for v in losses.values()]).sum()
