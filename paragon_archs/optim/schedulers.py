"""Learning rates: torch's schedulers, the host's, steps by epochs, and warm-up."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from basicsr.models.lr_scheduler import CosineAnnealingRestartLR as HostCosineRestart
from basicsr.models.lr_scheduler import MultiStepRestartLR
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler


class CosineAnnealingRestartLR(HostCosineRestart):
    """The host's, which stays at its last value where the host's crashes.

    The host's own looks for the period of an iteration after the last one, finds none
    and indexes a list with it.
    """

    def get_lr(self) -> list[float]:
        """Returns the rates of this step."""
        reached = self.last_epoch
        self.last_epoch = min(reached, self.cumulative_period[-1])
        try:
            return super().get_lr()
        finally:
            self.last_epoch = reached


class StepEpochLR(lr_scheduler.StepLR):
    """Multiplies the rate by `gamma` every `epochs` epochs.

    Args:
        optimizer: Whose rates.
        epochs: Epochs between two steps.
        gamma: Factor of one step.
        iterations_per_epoch: Set by the trainer.
        last_epoch: As in torch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epochs: int,
        gamma: float = 0.5,
        iterations_per_epoch: int = 1,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(
            optimizer, max(1, round(epochs * iterations_per_epoch)), gamma, last_epoch
        )


# These want a metric, a function or other schedulers, which YAML cannot give.
_WITHOUT = (
    "ReduceLROnPlateau",
    "LambdaLR",
    "MultiplicativeLR",
    "SequentialLR",
    "ChainedScheduler",
)

SCHEDULERS: dict[str, type[LRScheduler]] = {
    name: entry
    for name, entry in vars(lr_scheduler).items()
    if inspect.isclass(entry)
    and issubclass(entry, LRScheduler)
    and name.endswith(("LR", "Restarts"))
    and not name.startswith("_")
    and name not in (*_WITHOUT, "LRScheduler")
}
# The host's names keep the host's meaning.
SCHEDULERS |= {
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
    "StepEpochLR": StepEpochLR,
}


def build_scheduler(
    kind: str,
    optimizer: Optimizer,
    total_iter: int,
    iterations_per_epoch: int = 1,
    **arguments: Any,
) -> LRScheduler:
    """Returns the scheduler called `kind`; it is stepped once per iteration.

    Args:
        kind: A name out of `SCHEDULERS`.
        optimizer: Whose rates.
        total_iter: Length of the run or stage; the default of `T_max`, `total_steps`
            and, for `LinearLR` and `PolynomialLR`, of `total_iters`.
        iterations_per_epoch: For schedules that count epochs.
        **arguments: The scheduler's own.

    Raises:
        ValueError: when there is none of that name.
        TypeError: for an argument that it does not have.
    """
    if kind not in SCHEDULERS:
        raise ValueError(
            f"Expected the scheduler's type to be one of {', '.join(SCHEDULERS)}, but "
            f"got {kind!r}. Choose one of them."
        )
    names = inspect.signature(SCHEDULERS[kind]).parameters
    lengths = ("T_max", "total_steps")
    if kind in ("LinearLR", "PolynomialLR"):
        lengths = ("total_iters",)  # 5 steps by torch's default
    for name in lengths:
        if name in names and "epochs" not in arguments:
            arguments.setdefault(name, total_iter)
    if kind == "StepEpochLR":
        arguments["iterations_per_epoch"] = iterations_per_epoch
    scheduler = SCHEDULERS[kind](optimizer, **arguments)
    if (length := getattr(scheduler, "total_steps", total_iter)) < total_iter:
        raise ValueError(
            f"Expected train:scheduler:total_steps to be at least the {total_iter} "
            f"iterations that it schedules, but got {length}. Leave it out: the "
            "schedule is then as long as the run."
        )
    return scheduler


def step_learning_rates(
    optimizers: Sequence[Optimizer],
    schedulers: Sequence[LRScheduler],
    current_iter: int,
    warmup_iter: int = -1,
) -> None:
    """Sets the rates of one iteration: the schedule's, lowered during warm-up.

    The host lets its schedulers start from the rate that the warm-up has left in the
    group, so the full rate is never reached and milestones inside the warm-up are
    lost. Here each schedule first gets its own last rate back.

    Args:
        optimizers: Whose rates are set.
        schedulers: Their schedules; may be empty.
        current_iter: The iteration that begins, counted from 1.
        warmup_iter: Iterations of linear warm-up; below 1 means none.
    """
    for scheduler in schedulers:
        for group, rate in zip(
            scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True
        ):
            group["lr"] = rate
        if current_iter > 1:
            scheduler.step()
    scheduled = {id(s.optimizer) for s in schedulers}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if id(optimizer) not in scheduled:
                group["lr"] = group.setdefault("initial_lr", group["lr"])
            if current_iter < warmup_iter:
                group["lr"] = group["initial_lr"] * current_iter / warmup_iter
