"""A step of an optimizer, and how the host learns what became of it."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .guard import Guard, finite_flag
from .precision import Precision
from .verdict import Losses, Verdict

if TYPE_CHECKING:
    from ..config.sections.training import TrainSection


class Stepping:
    """The part of a model that moves weights and gathers losses.

    Attributes:
        last_losses: Of the last step.
        stop_number: The signal that asks this process to stop, 0 for none.
        asked: The signal that asks some process to.
    """

    opt: dict[str, Any]
    device: torch.device
    precision: Precision
    guard: Guard
    train_opt: TrainSection
    last_losses: list[Losses] = []  # noqa: RUF012 (replaced, never changed)
    stop_number = 0
    asked = 0

    @functools.cached_property
    def pending(self) -> dict[torch.optim.Optimizer, Verdict]:
        """Steps of which the host does not know yet how they went."""
        return {}

    @property
    def log_dict(self) -> dict[str, float]:
        """The last step's losses by name; whoever looks waits for the device."""
        return OrderedDict(
            item for losses in self.last_losses for item in losses.numbers().items()
        )

    def gather_losses(self, losses: Mapping[str, Tensor]) -> Losses:
        """Averages losses over processes; every process gets the same numbers.

        The request to stop travels with them.
        """
        values = torch.stack([v.detach().float().mean() for v in losses.values()])
        asked = None
        if self.opt["dist"]:
            asked = values.new_full((2,), float(self.stop_number > 0))
            asked[1:].fill_(self.stop_number)
            together = torch.cat((values, asked))
            dist.all_reduce(together)
            values, asked = together[: len(losses)], together[len(losses) :]
            values = values / self.opt["world_size"]
        return Losses(list(losses), values, asked)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        net: nn.Module,
        losses: Losses,
        current_iter: int,
        guard: Guard | None = None,
    ) -> bool:
        """Clips and steps; a non-finite loss or gradient skips the step.

        Where the optimizer can skip on the device, the host reads with the next step
        whether it did, and never waits.

        Args:
            optimizer: Moves the weights of `net`.
            net: Whose gradient is looked at and clipped.
            losses: What the gradient comes from.
            current_iter: For messages.
            guard: Counts bad steps; the model's own where there is none.

        Returns:
            Whether the weights have moved; True where that is read later.

        Raises:
            TrainingError: when too many steps in a row were not finite.
        """
        guard = guard or self.guard
        scaler = self.precision.scaler
        scaler.unscale_(optimizer)
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        finite_gradients = finite_flag(gradients)
        verdict = Verdict(losses, finite_gradients, current_iter, guard)
        if self.skips_on_device(optimizer):
            return self._step_late(optimizer, net, verdict)
        bad, finite = verdict.bad_losses(), verdict.finite()
        self.asked = verdict.asked()
        # A scale that is too large shows as an infinite gradient: the scaler's affair.
        too_large = scaler.is_enabled() and not bad and scaler.get_scale() > 1
        if not finite and not too_large:
            optimizer.zero_grad(set_to_none=True)
            scaler.update()
            guard.bad_step(current_iter, verdict.what())
            return False
        if finite:
            self._clip(net)
        scaler.step(optimizer)
        scaler.update()
        guard.good_step()
        return finite

    def _clip(self, net: nn.Module) -> None:
        if self.train_opt.grad_clip > 0:
            nn.utils.clip_grad_norm_(net.parameters(), self.train_opt.grad_clip)

    def skips_on_device(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimizer takes a flag on the device instead of the host's word.

        torch's fused ones do; fp16's loss scaling reads its own flag in any case.
        """
        return (
            self.device.type == "cuda"
            and not self.precision.scaler.is_enabled()
            and getattr(optimizer, "_step_supports_amp_scaling", False)
            and all(group.get("fused") for group in optimizer.param_groups)
        )

    def _step_late(
        self, optimizer: torch.optim.Optimizer, net: nn.Module, verdict: Verdict
    ) -> bool:
        verdict.fetch()
        if self._judge(optimizer):  # this gradient is of weights that have gone
            optimizer.zero_grad(set_to_none=True)
            return False
        self._clip(net)
        # As GradScaler hands it over; torch documents no other way.
        flags: Any = optimizer
        flags.grad_scale, flags.found_inf = None, verdict.skip()
        optimizer.step()
        del flags.grad_scale, flags.found_inf
        self.pending[optimizer] = verdict
        return True

    def _judge(self, optimizer: torch.optim.Optimizer) -> bool:
        """Reads how an optimizer's last step went; whether the weights came back."""
        verdict = self.pending.pop(optimizer, None)
        if verdict is None:
            return False
        self.asked = verdict.asked()
        if verdict.finite():
            verdict.guard.good_step()
            return False
        return verdict.guard.bad_step(verdict.iteration, verdict.what())

    def settle(self) -> None:
        """Reads how the last step went, where that is still unknown."""
        for optimizer in list(self.pending):
            self._judge(optimizer)
