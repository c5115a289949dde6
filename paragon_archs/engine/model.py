"""What the engine asks of a model class, the host's or the pack's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Model(Protocol):
    """A model whose state can be kept and taken back.

    Attributes:
        metric_results: Metric -> its value at the last validation; for the host's video
            models folder -> a row of values for each frame.
        best_metric_results: Data set -> metric -> `val` and `iter` of the best.
    """

    metric_results: dict[str, Any]
    best_metric_results: dict[str, dict[str, Any]]

    @property
    def opt(self) -> Mapping[str, Any]: ...

    @property
    def optimizers(self) -> Sequence[Optimizer]: ...

    @property
    def schedulers(self) -> Sequence[LRScheduler]: ...

    def get_bare_model(self, net: nn.Module) -> nn.Module: ...


class ImageModel(Model, Protocol):
    """A model that is validated on images."""

    def feed_data(self, data: Mapping[str, Any]) -> None: ...

    def test(self) -> None: ...

    def get_current_visuals(self) -> dict[str, Tensor]: ...

    def _initialize_best_metric_results(self, dataset_name: str) -> None: ...

    def _update_best_metric_result(
        self, dataset_name: str, metric: str, val: float, current_iter: int
    ) -> None: ...


@runtime_checkable
class Extending(Protocol):
    """A model that keeps more than networks, optimizers and schedules."""

    def state_extras(self) -> dict[str, Any]: ...

    def load_state_extras(self, extras: Mapping[str, Any]) -> None: ...
