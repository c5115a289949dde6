"""The stages of a training run: how long each is, what trains in it, what it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..archs.fusionsr_arch import TRANSFER_MIX, FusionSR, transfer_baseline
from ..config.sections.stages import StageSection
from ..utils.nearest import did_you_mean

MIX = "conv_first.mix_weight"  # of FusionSR, whose transfer has a start of its own


@dataclass(frozen=True)
class Stage:
    """One stage; `start` and `stop` are iterations done before and after it."""

    name: str
    start: int
    stop: int
    lr: float | None = None
    train: tuple[str, ...] = ("*",)
    load: str | None = None
    may_be_missing: tuple[str, ...] = ()
    start_values: Mapping[str, float] = field(default_factory=dict)
    network_g: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)  # of `TrainSection`
    keep_optimizer: bool = False

    @property
    def length(self) -> int:
        """Iterations of the stage."""
        return self.stop - self.start


# Keys of a stage that take the place of the same key of `train`.
TRAINING = (
    "losses",
    "scheduler",
    "warmup_iter",
    "ema_decay",
    "merge_head",
    "loss_margin",
)
# What a stage cannot have that goes on with the optimizer of the one before.
BEGINNING = ("train", "load", "may_be_missing", "start_values", "network_g")


def read_stages(
    sections: Sequence[StageSection], iterations_per_epoch: float
) -> list[Stage]:
    """Reads the list `stages` of an option file.

    Args:
        sections: Its entries.
        iterations_per_epoch: For stages whose length is given in epochs.

    Raises:
        ValueError: for an empty list, a name that is taken, and a stage with no length
            or two.
    """
    if not sections:
        raise ValueError(
            "Expected stages to hold at least one stage, but got none. Give name, "
            "iterations or epochs, lr and train for each."
        )
    stages: list[Stage] = []
    for section in sections:
        name, keep = section.name, section.keep_optimizer
        if name in {stage.name for stage in stages}:
            raise ValueError(
                f"Expected the names of stages to differ, but got {name!r} twice. "
                "Rename one of the two."
            )
        if keep:
            _check_kept(section, stages)
        before = stages[-1] if keep else None
        start = stages[-1].stop if stages else 0
        own = {key: getattr(section, key) for key in TRAINING}
        stages.append(
            Stage(
                name,
                start,
                start + _length(section, iterations_per_epoch),
                section.lr,
                before.train if before else tuple(section.train or ("*",)),
                section.load,
                tuple(section.may_be_missing or ()),
                dict(section.start_values or {}),
                before.network_g if before else dict(section.network_g or {}),
                section.data,
                {key: value for key, value in own.items() if value is not None},
                keep,
            )
        )
    return stages


def _length(section: StageSection, iterations_per_epoch: float) -> int:
    """Returns a stage's iterations, which it gives itself or in epochs."""
    iterations, epochs = section.iterations, section.epochs
    if epochs is None and iterations is not None:
        return iterations
    if epochs is None or iterations is not None:
        raise ValueError(
            f"Expected stage {section.name!r} to have iterations or epochs, but got "
            f"{iterations!r} and {epochs!r}. Give exactly one of the two."
        )
    return max(1, round(epochs * iterations_per_epoch))


def _check_kept(section: StageSection, before: Sequence[Stage]) -> None:
    """Refuses what a stage that keeps the optimizer cannot have."""
    if not before:
        raise ValueError(
            f"Expected a stage before {section.name!r}, which has keep_optimizer, but "
            "it is the first. Remove keep_optimizer."
        )
    for key in BEGINNING:
        if value := getattr(section, key):
            raise ValueError(
                f"Expected stage {section.name!r}, which has keep_optimizer, to train "
                f"what the stage before trains, but got {key} {value!r}. Remove one of "
                "the two."
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def freeze(network: nn.Module, stage: Stage) -> list[nn.Module]:
    """Lets the parameters that the stage names train, and no other.

    A normalization whose parameters and statistics are all outside of the patterns
    keeps its statistics too: it goes to evaluation mode.

    Args:
        network: A fresh network; what it never trains (`requires_grad` is False) stays
            so whatever the patterns say.
        stage: Whose patterns count.

    Returns:
        The frozen normalizations, which must be put back after every `train()`.

    Raises:
        ValueError: when a pattern matches no parameter.
    """
    names = [name for name, _ in network.named_parameters()]
    statistics = [
        f"{prefix}.running_mean" if prefix else "running_mean"
        for prefix, module in network.named_modules()
        if getattr(module, "running_mean", None) is not None
    ]
    for pattern in stage.train:
        if not any(fnmatchcase(name, pattern) for name in (*names, *statistics)):
            hint = did_you_mean(pattern, names, "Use * for all.", cutoff=0.3)
            raise ValueError(
                f"Expected the patterns of stage {stage.name!r} to match parameters, "
                f"but {pattern!r} matches none. {hint}"
            )
    for name, parameter in network.named_parameters():
        trains = parameter.requires_grad and _matches(name, stage.train)
        parameter.requires_grad_(trains)
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError(
            f"Expected stage {stage.name!r} to train at least one parameter, but its "
            f"patterns {', '.join(stage.train)} match only what never trains. Use *."
        )
    frozen = []
    for prefix, module in network.named_modules():
        if getattr(module, "running_mean", None) is None:
            continue
        leaves = ("weight", "bias", "running_mean")
        own = [f"{prefix}.{leaf}" if prefix else leaf for leaf in leaves]
        if not any(_matches(name, stage.train) for name in own):
            frozen.append(module.eval())
    return frozen


def load_stage(
    network: nn.Module, weights: Mapping[str, Tensor], stage: Stage, source: str
) -> None:
    """Fills a stage's network with the weights that it begins with, in place.

    Only what `may_be_missing` names may be missing, and it keeps its fresh values.
    FusionSR knows its own case: a baseline lacks exactly the enhanced path, whose
    `mix_weight` then starts so low that the picture stays the baseline's.

    Args:
        network: The stage's network.
        weights: Names and tensors.
        stage: Its patterns and start values.
        source: Where the weights are from, for messages.

    Raises:
        ValueError: when anything else is missing, unknown or of another shape, and for
            a start value of a parameter that does not exist.
    """
    own = network.state_dict()
    starts = dict(stage.start_values)
    missing = [n for n in own if n not in weights]
    if isinstance(network, FusionSR) and MIX in missing:
        mix = starts.pop(MIX, TRANSFER_MIX)
        transfer_baseline(network, weights, mix)
    else:
        faults = [
            *(
                f"{n} is missing"
                for n in missing
                if not _matches(n, stage.may_be_missing)
            ),
            *(f"{n} is unknown" for n in weights if n not in own),
            *(
                f"{n} is {tuple(v.shape)} instead of {tuple(own[n].shape)}"
                for n, v in weights.items()
                if n in own and own[n].shape != v.shape
            ),
        ]
        if faults:
            raise ValueError(
                f"Expected the weights of {source} to fit the network of stage "
                f"{stage.name!r}, but {faults[0]} ({len(faults)} such entries). Name "
                "what may be new in may_be_missing."
            )
        network.load_state_dict({**own, **weights})
    set_start_values(network, starts, stage.name)


@torch.no_grad()
def set_start_values(
    network: nn.Module, starts: Mapping[str, float], stage: str
) -> None:
    """Gives parameters the numbers that they start at, by patterns, in place.

    Raises:
        ValueError: when a pattern matches no parameter.
    """
    parameters = dict(network.named_parameters())
    for pattern, value in starts.items():
        matched = [p for name, p in parameters.items() if fnmatchcase(name, pattern)]
        if not matched:
            raise ValueError(
                f"Expected start_values of stage {stage!r} to name parameters, but got "
                f"{pattern!r}. Correct or remove it."
            )
        for parameter in matched:
            parameter.fill_(value)
