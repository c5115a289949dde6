"""Best checkpoint of every metric, and the stop when one no longer improves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..config.errors import OptionError
from ..config.sections.validation import ValSection
from .model import Model


class EarlyStopping:
    """Counts validations of one metric without improvement.

    Args:
        patience: Validations without improvement before `done`.
        better: `higher` or `lower`.
        min_delta: Smallest change that counts.
    """

    def __init__(self, patience: int, better: str, min_delta: float = 0.0) -> None:
        self.patience = patience
        self.sign = 1.0 if better == "higher" else -1.0
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def update(self, value: float) -> None:
        """Takes one validation's value; one that is no number counts for nothing."""
        if math.isnan(value):
            return
        if self.best is None or self.sign * (value - self.best) > self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def done(self) -> bool:
        """True when patience is used up."""
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, object]:
        """Returns the best value and the count."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes both back."""
        self.best, self.waited = state["best"], state["waited"]


def build_stopping(
    val: ValSection | None, sets: list[str]
) -> tuple[EarlyStopping, str, str] | None:
    """Returns the rule of `val:early_stopping`, its set and its metric; or None.

    Raises:
        OptionError: when the metric or the set does not exist.
    """
    section = val.early_stopping if val else None
    if not val or not section:
        return None
    metrics = val.metrics or {}
    if section.metric not in metrics:
        raise OptionError(
            f"Expected val:early_stopping:metric to be one of {', '.join(metrics)}, "
            f"but got {section.metric!r}. Name one of val:metrics."
        )
    chosen = section.dataset or (sets[0] if sets else None)
    if chosen not in sets:
        raise OptionError(
            f"Expected val:early_stopping:dataset to be one of {', '.join(sets)}, but "
            f"got {chosen!r}. Give the name of a validation set."
        )
    rule = EarlyStopping(
        section.patience, metrics[section.metric].better, section.min_delta
    )
    return rule, chosen, section.metric


def metric_value(model: Model, metric: str) -> float:
    """Returns a metric's value at the last validation.

    The host's video models keep one row a frame for each folder, and report the mean
    over folders of the means over frames.
    """
    results = model.metric_results
    if metric in results:
        return float(results[metric])
    column = list(model.opt["val"]["metrics"]).index(metric)
    means = [float(frames[:, column].mean()) for frames in results.values()]
    return sum(means) / len(means)


def new_bests(model: Model, dataset: str, current_iter: int) -> list[str]:
    """Returns labels of the metrics of `dataset` that this validation made best."""
    results = getattr(model, "best_metric_results", {}).get(dataset, {})
    return [
        f"best_{_plain(dataset)}_{_plain(metric)}"
        for metric, record in results.items()
        if record["iter"] == current_iter
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
