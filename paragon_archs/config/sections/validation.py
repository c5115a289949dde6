"""How to validate, what is kept of it, and when it ends the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..key import Name, Section, Typed, key
from .models import OURS


@dataclass(frozen=True)
class MetricSection(Typed):
    """One metric; `arguments` are those of the function that `type` names."""

    better: str = key("which values are better", "higher", choices=("higher", "lower"))


@dataclass(frozen=True)
class EarlyStoppingSection(Section):
    """The stop when a metric no longer improves."""

    metric: str = key("name out of `val:metrics`")
    dataset: str | None = key("its set; the first when absent", None)
    patience: int = key("validations without improvement before the stop", low=1)
    min_delta: float = key("smallest change that counts as improvement", 0.0, low=0)


@dataclass(frozen=True)
class ValSection(Section):
    """The section `val`."""

    val_freq: int = key("steps between validations", low=1)
    save_img: bool = key("write the validation images", False)
    samples: int = key(
        "images of each set shown beside input and target, in `visualization/samples` "
        "and in `report.html`",
        2,
        low=0,
        host_default=0,
    )
    max_memory: str | None = key(
        "memory of a validation image, as 4G; beyond it strips give the same result",
        None,
        model=OURS,
    )
    suffix: Name | None = key("suffix of the images of `basicsr test`", None)
    pbar: bool = key("progress bar of a validation", False)
    metrics: Mapping[str, MetricSection] | None = key(
        "name: `type` (a registered metric), arguments", None
    )
    save_best: bool = key(
        "keep the best weights of every metric", True, host_default=False
    )
    early_stopping: EarlyStoppingSection | None = key(
        "stop when a metric no longer improves", None
    )
