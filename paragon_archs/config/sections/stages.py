"""The stages of `ParagonStagedModel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..key import Key, Name, Section, Typed, key
from .training import LossSection


@dataclass(frozen=True)
class StageSection(Section):
    """One entry of `stages`."""

    name: Name = key("name in logs and files")
    iterations: int | None = key("length in steps, or", None, low=1)
    epochs: float | None = key("length in epochs", None, low=0, high=1000000000.0)
    lr: float | None = key(
        "rate; that of `optim_g` when absent", None, low=0, high=1000000000.0
    )
    train: Sequence[str] | None = key(
        "patterns of the parameters that train; all when absent", None
    )
    load: str | None = key(
        "weight file to begin with; the stage before when absent", None
    )
    may_be_missing: Sequence[str] | None = key(
        "patterns of what these weights may lack; it starts fresh", None
    )
    start_values: Mapping[str, float] | None = key(
        "patterns of parameters that start at a number: `*.gamma: 0.2`",
        None,
        entries=Key("float", 0.0, ""),
    )
    network_g: Mapping[str, object] | None = key(
        "arguments of the network that differ in this stage",
        None,
        entries=Key("any", None, ""),
    )
    data: Mapping[str, object] | None = key(
        "keys of `datasets:train` that differ: crops, batch, folder, or another `type` "
        "with all of its keys",
        None,
        entries=Key("any", None, ""),
    )
    losses: Sequence[LossSection] | None = key(
        "in place of `train:losses`", None, listed=False
    )
    scheduler: Typed | None = key(
        "in place of `train:scheduler`; as long as the stage", None
    )
    warmup_iter: int | None = key("in place of `train:warmup_iter`", None)
    ema_decay: float | None = key("in place of `train:ema_decay`", None, low=0, high=1)
    merge_head: bool | None = key("in place of `train:merge_head`", None)
    loss_margin: int | None = key("in place of `train:loss_margin`", None, low=0)
    keep_optimizer: bool = key(
        "go on with the weights, average and optimizer of the stage before", False
    )
