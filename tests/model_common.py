"""One `ParagonModel` in a test's hands: options, batches, steps. Needs BasicSR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine_common as common
import torch
from common import image
from torch import nn

from paragon_archs.cli.session import arguments_of, prepare
from paragon_archs.models.paragon_model import ParagonModel


def options(here: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns checked options as the trainer hands them to the model."""
    common.write_options(here / "o.yml", changes)
    opt = prepare(arguments_of("train", ["-opt", "o.yml"]), True, here).values
    return {**opt, "dist": False, "rank": 0, "world_size": 1}


def model(here: Path, changes: dict[str, Any] | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return ParagonModel(options(here, changes))


def batch(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        "lq": image(size, 3, 8, 8, seed=seed),
        "gt": image(size, 3, 16, 16, seed=seed + 1),
    }


def run(one: Any, data: dict[str, torch.Tensor], iterations: int = 1) -> None:
    for number in range(1, iterations + 1):
        one.update_learning_rate(number)
        one.feed_data(data)
        one.optimize_parameters(number)


class NotFinite(nn.Module):
    """Makes the output NaN at chosen iterations."""

    def __init__(self, at: range) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        self.calls += module.training
        return output * float("nan") if self.calls in self.at else output
