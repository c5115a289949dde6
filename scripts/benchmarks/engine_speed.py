"""Iterations per second of this pack's model class beside BasicSR's SRModel."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paragon_archs.config.check import check_options
from paragon_archs.config.loading import Options
from paragon_archs.utils.registry import MODEL_REGISTRY


@dataclass(frozen=True)
class EngineSpeed:
    """Medians of iterations per second, of their ratio, and how far losses part.

    Attributes:
        host: SRModel, its defaults.
        ours: ParagonModel, its defaults.
        ratio: Median of ours over host, round by round.
        loss_difference: Largest relative difference of the two losses at one step.
    """

    host: float
    ours: float
    ratio: float
    loss_difference: float


def measure_engine(
    variant: str, scale: int, batch: int, size: int, rounds: int, steps: int = 4
) -> EngineSpeed:
    """Trains one network on the same pairs in both model classes, in turn.

    Both start from the same weights, with Adam, L1 and an average of the weights.

    Args:
        variant: The network.
        scale: Its factor.
        batch: Pairs of a step.
        size: Side of the LR patches.
        rounds: Timed rounds; one more comes first to warm up.
        steps: Steps of one round.
    """
    options = _options(variant, scale, batch)
    models = {name: _build(name, options) for name in ("SRModel", "ParagonModel")}
    generator = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    apart = 0.0
    number = 0
    for _ in range(rounds + 1):
        pairs = [
            {
                "lq": torch.rand(batch, 3, size, size, generator=generator),
                "gt": torch.rand(
                    batch, 3, size * scale, size * scale, generator=generator
                ),
            }
            for _ in range(steps)
        ]
        losses: dict[str, list[float]] = {}
        for name, model in models.items():
            start = time.perf_counter()
            losses[name] = []
            for index, pair in enumerate(pairs, number + 1):
                model.update_learning_rate(index)
                model.feed_data(pair)
                model.optimize_parameters(index)
                losses[name].append(model.get_current_log()["l_pix"])
            seconds[name].append(time.perf_counter() - start)
        number += steps
        for host, ours in zip(losses["SRModel"], losses["ParagonModel"], strict=True):
            apart = max(apart, abs(host - ours) / host)
    kept = {name: values[1:] for name, values in seconds.items()}
    ratios = [
        host / ours
        for host, ours in zip(kept["SRModel"], kept["ParagonModel"], strict=True)
    ]
    return EngineSpeed(
        host=steps / statistics.median(kept["SRModel"]),
        ours=steps / statistics.median(kept["ParagonModel"]),
        ratio=statistics.median(ratios),
        loss_difference=apart,
    )


def _options(variant: str, scale: int, batch: int) -> dict[str, Any]:
    """Returns the options that both model classes train with."""
    return {
        "name": "speed",
        "scale": scale,
        "num_gpu": torch.cuda.device_count(),
        "manual_seed": 0,
        "datasets": {
            "train": {
                "name": "pairs",
                "type": "HRImageDataset",
                "dataroot_gt": "",
                "batch_size_per_gpu": batch,
            }
        },
        "network_g": {"type": variant, "scale": scale},
        "train": {
            "total_iter": 10**6,
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [10**5]},
            "pixel_opt": {"type": "L1Loss"},
        },
    }


def _build(name: str, options: dict[str, Any]) -> Any:
    """Builds a model class on checked options, from the same random numbers."""
    values = copy.deepcopy({**options, "model_type": name})
    check_options(Options(values, Path("speed")), is_train=True)
    torch.manual_seed(0)
    return MODEL_REGISTRY.get(name)(
        {**values, "dist": False, "rank": 0, "world_size": 1, "is_train": True}
    )
