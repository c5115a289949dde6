"""Guard against NaN and infinity: skip the step, restore, at last stop."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config.errors import TrainingError

logger = logging.getLogger("basicsr")


class Guard:
    """Counts non-finite steps and decides what becomes of them.

    Args:
        restore_after: Bad steps in a row after which the last good weights return.
        stop_after: Bad steps in a row after which the run stops.
        snapshot: Returns all that a restored run needs (weights, optimizers, average).
        restore: Takes such a snapshot back.
    """

    def __init__(
        self,
        restore_after: int,
        stop_after: int,
        snapshot: Callable[[], Any],
        restore: Callable[[Any], None],
    ) -> None:
        self.restore_after = restore_after
        self.stop_after = stop_after
        self.in_a_row = 0
        self.total = 0
        self._snapshot = snapshot
        self._restore = restore
        self._good: Any = None

    def remember(self) -> None:
        """Keeps the present weights as the last good ones, on the CPU."""
        self._good = _to_cpu(self._snapshot())

    def good_step(self) -> None:
        """Ends a row of bad steps."""
        self.in_a_row = 0

    def bad_step(self, current_iter: int, what: str) -> bool:
        """Counts a step that was skipped.

        Returns:
            Whether the last good weights have come back.

        Raises:
            TrainingError: after `stop_after` of them in a row.
        """
        self.in_a_row += 1
        self.total += 1
        logger.warning(
            "Iteration %d: %s is not finite; step skipped (%d in a row, %d in all).",
            current_iter,
            what,
            self.in_a_row,
            self.total,
        )
        if self.in_a_row >= self.stop_after:
            self.restore()
            raise TrainingError(
                f"Expected finite losses and gradients, but got {what} non-finite in "
                f"{self.in_a_row} iterations in a row, the last one {current_iter}. "
                "Lower the rate, set train:grad_clip, or look at the data; the last "
                "checkpoint is good."
            )
        if self.in_a_row % self.restore_after:
            return False
        self.restore()
        logger.warning("The last good weights are back.")
        return True

    def restore(self) -> None:
        """Brings the last good weights back."""
        if self._good is not None:
            self._restore(copy.deepcopy(self._good))

    def state_dict(self) -> dict[str, int]:
        """Returns the counters."""
        return {"in_a_row": self.in_a_row, "total": self.total}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes the counters back."""
        self.in_a_row, self.total = state["in_a_row"], state["total"]


def skipped_steps(model: object) -> int:
    """Returns the number of steps that a model's guards have skipped."""
    return sum(g.total for g in vars(model).values() if isinstance(g, Guard))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """True when no floating tensor holds NaN or infinity; one wait for the device."""
    return bool(finite_flag(tensors))


def finite_flag(tensors: Iterable[Tensor]) -> Tensor:
    """Returns, on their device, whether no floating tensor holds NaN or infinity."""
    floating = [t for t in tensors if t.is_floating_point() and t.numel()]
    if not floating:
        return torch.tensor(True)
    # A norm is non-finite as soon as one entry is (inf - inf cannot cancel in it).
    norms = torch._foreach_norm(floating, float("inf"))  # type: ignore[attr-defined]
    return torch.isfinite(torch.stack([n.float() for n in norms])).all()


def finite_network(net: nn.Module) -> bool:
    """True when every weight and buffer of `net` is finite."""
    return all_finite(net.state_dict().values())


def _to_cpu(value: object) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _to_cpu(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_cpu(v) for v in value)
    return copy.deepcopy(value)
