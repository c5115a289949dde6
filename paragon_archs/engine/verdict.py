"""What the host learns of a training step, and when: no sooner than it must."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .guard import Guard


@dataclass
class Losses:
    """A step's losses, averaged over processes, where they were computed.

    Attributes:
        names: Of each.
        values: (N,) in float32.
        asked: How many processes are asked to stop, and the sum of their signals'
            numbers, (2,); None where there is one process.
    """

    names: list[str]
    values: Tensor
    asked: Tensor | None = None
    _numbers: list[float] | None = None

    def numbers(self) -> dict[str, float]:
        """Returns the values by name; waits for the device, unless they are known."""
        if self._numbers is None:
            self._numbers = self.values.tolist()
        return dict(zip(self.names, self._numbers, strict=True))

    def know(self, numbers: list[float]) -> None:
        """Takes the values from whoever has fetched them."""
        self._numbers = numbers


class Verdict:
    """Whether a step was finite, of which everything is fetched at once.

    Args:
        losses: The step's.
        finite_gradients: A flag on their device.
        iteration: Of the step.
        guard: Counts it.
    """

    def __init__(
        self, losses: Losses, finite_gradients: Tensor, iteration: int, guard: Guard
    ) -> None:
        self.iteration, self.guard = iteration, guard
        self._losses = losses
        values = losses.values
        parts = [values, finite_gradients.to(values).reshape(1)]
        if losses.asked is not None:
            parts.append(losses.asked)
        self._message = torch.cat(parts)
        self._fetched: Callable[[], list[float]] = self._message.tolist
        self._known: list[float] | None = None

    def fetch(self) -> None:
        """Begins to copy it to the host, beside what the device computes next."""
        if self._message.is_cuda:
            self._fetched = fetched(self._message)

    def skip(self) -> Tensor:
        """Returns, on the device, 1 where the step is to be left out, else 0."""
        count = len(self._losses.names)
        fine = torch.isfinite(self._message[:count]).all() & (self._message[count] > 0)
        return (~fine).float()

    def _numbers(self) -> list[float]:
        if self._known is None:
            self._known = self._fetched()
            self._losses.know(self._known[: len(self._losses.names)])
        return self._known

    def bad_losses(self) -> list[str]:
        """Returns the names of losses that are not finite."""
        return [
            name
            for name, value in zip(self._losses.names, self._numbers(), strict=False)
            if not math.isfinite(value)
        ]

    def finite(self) -> bool:
        """Whether losses and gradients were."""
        return not self.bad_losses() and self._numbers()[len(self._losses.names)] > 0

    def what(self) -> str:
        """Names what was not finite."""
        bad = self.bad_losses()
        return f"loss {bad[0]}" if bad else "a gradient"

    def asked(self) -> int:
        """Returns the signal that asks a process to stop; 0 for none."""
        if self._losses.asked is None:
            return 0
        count, total = self._numbers()[-2:]
        return round(total / count) if count else 0


def fetched(values: Tensor) -> Callable[[], list[float]]:
    """Begins to copy a few numbers off a GPU; what it returns waits for these alone."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> list[float]:
        done.synchronize()
        return host.tolist()

    return wait
