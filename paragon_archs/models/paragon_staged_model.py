"""The staged model: parts of a network train one after the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from basicsr.archs import build_network
from torch import Tensor, nn

from ..checkpoint import read_state_dict
from ..config.sections.run import RunSection
from ..engine.stages import Stage, freeze, load_stage, read_stages, set_start_values
from ..utils.registry import MODEL_REGISTRY
from ..weights import resolve
from .paragon_model import ParagonModel

logger = logging.getLogger("basicsr")


@MODEL_REGISTRY.register()
class ParagonStagedModel(ParagonModel):
    """Trains an image network in the stages of the list `stages`.

    Each stage begins with the released weights of the one before (or with a file),
    and with an optimizer, a schedule, a warm-up and an average of its own; with
    `keep_optimizer` it goes on with those of the one before. What its patterns do not
    name is frozen: no gradient, no optimizer state, no weight decay, no moving
    statistics. A stage may have other arguments of the network, as a baseline without
    its later parts, and data, losses, rates and a schedule of its own.

    Args:
        opt: Checked options with every default filled in (see `config.sections`).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.index = 0
        self.frozen_norms: list[nn.Module] = []
        self.stages: list[Stage] = []
        if opt["is_train"]:
            epoch = opt.get("iterations_per_epoch", 1)
            self.stages = read_stages(RunSection.read(opt).stages or (), epoch)
        super().__init__(opt)

    @property
    def stage(self) -> Stage:
        """The stage that trains now."""
        return self.stages[self.index]

    # Building --------------------------------------------------------------------

    def build_networks(self) -> None:
        """Checks every stage, and builds the network of the first."""
        if not self.is_train:
            super().build_networks()
            return
        for stage in self.stages:
            with torch.device("meta"):
                freeze(build_network(self._arguments(stage)), stage)
            if stage.load is not None:
                try:
                    resolve(stage.load)
                except FileNotFoundError as error:
                    raise ValueError(
                        f"Expected load of stage {stage.name!r} to be a weight file, "
                        f"but got {stage.load!r}, which does not exist. Check the path."
                    ) from error
        self._build_stage(None)

    def _arguments(self, stage: Stage) -> dict[str, Any]:
        return {**self.opt["network_g"], **stage.network_g}

    def _build_stage(self, before: Mapping[str, Tensor] | None) -> None:
        """Builds this stage's network out of a file or what the last stage left."""
        stage = self.stage
        self.network_arguments = self._arguments(stage)
        self._begin_with = (before, "the stage before")
        if stage.load is not None:
            self._begin_with = (read_state_dict(resolve(stage.load)), repr(stage.load))
        fresh = self._begin_with[0] is None
        self.net_g = self.build("network_g", "g", self.network_arguments, fresh)
        bare = self.get_bare_model(self.net_g)
        trains = sum(p.numel() for p in bare.parameters() if p.requires_grad)
        logger.info(
            "Stage %d of %d, %s: iterations %d to %d, %s of %s parameters train.",
            self.index + 1,
            len(self.stages),
            stage.name,
            stage.start + 1,
            stage.stop,
            f"{trains:,}",
            f"{sum(p.numel() for p in bare.parameters()):,}",
        )

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Loads and freezes before wrapping: processes share what trains, no more."""
        if self.is_train:
            weights, source = self._begin_with
            if weights is not None:
                load_stage(net, weights, self.stage, source)
            else:
                set_start_values(net, self.stage.start_values, self.stage.name)
            self.frozen_norms = freeze(net, self.stage)
        return super().model_to_device(net)

    def init_training_settings(self) -> None:
        """Builds the stage's average, losses, optimizer, schedule and guard."""
        self.optimizers, self.schedulers = [], []
        self._take_options()
        super().init_training_settings()

    def _take_options(self) -> None:
        """Lets the stage's own keys take the place of those of `train`."""
        stage = self.stage
        self.schedule_start, self.schedule_length = stage.start, stage.length
        train = self.sections.train
        if stage.lr is not None:
            arguments = {**train.optim_g.arguments, "lr": stage.lr}
            train = replace(train, optim_g=replace(train.optim_g, arguments=arguments))
        self.train_opt = replace(train, **stage.training)

    # Going on --------------------------------------------------------------------

    def enter(self, index: int, before: Mapping[str, Tensor] | None) -> None:
        """Begins a stage.

        Args:
            index: Which, from 0.
            before: Weights that it begins with, unless it loads a file; None leaves
                fresh ones, for a state that follows.
        """
        self.settle()
        self.index = index
        self._build_stage(before)
        self.init_training_settings()

    def go_on(self, index: int) -> None:
        """Begins a stage that keeps the optimizer: its losses, rates and schedule."""
        self.index = index
        self._take_options()
        stage = self.stage
        worst = [loss.worst for loss in self.bounds()]
        self.set_up_losses()
        for loss, crop in zip(self.bounds(), worst, strict=False):
            loss.worst = crop
        if self.average:
            self.average.decay = self.train_opt.ema_decay
        self.schedulers = []
        rate = self.train_opt.optim_g.arguments.get(
            "lr", self.optimizer_g.defaults["lr"]
        )
        for group in self.optimizer_g.param_groups:
            group["lr"] = group["initial_lr"] = rate
        self.setup_schedulers()
        logger.info(
            "Stage %d of %d, %s: iterations %d to %d, with the optimizer as it is.",
            index + 1,
            len(self.stages),
            stage.name,
            stage.start + 1,
            stage.stop,
        )

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Enters the stage of iteration `current_iter` (from 1) and sets its rates."""
        while current_iter > self.stage.stop and self.index + 1 < len(self.stages):
            self.save_released(f"stage_{self.stage.name}")
            if self.stages[self.index + 1].keep_optimizer:
                self.go_on(self.index + 1)
                continue
            released = {
                name: value.detach().cpu().clone()
                for name, value in self.released().state_dict().items()
            }
            self.enter(self.index + 1, released)
        warmup_iter = self.stage.training.get("warmup_iter", warmup_iter)
        super().update_learning_rate(current_iter - self.stage.start, warmup_iter)

    def optimize_parameters(self, current_iter: int) -> None:
        """Does one step; frozen statistics stay, whoever called `train()` meanwhile."""
        for norm in self.frozen_norms:
            norm.eval()
        super().optimize_parameters(current_iter)

    # State -----------------------------------------------------------------------

    def state_extras(self) -> dict[str, Any]:
        """Adds the stage."""
        return {**super().state_extras(), "stage": self.index}

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Enters the stage of a training state and takes everything else back."""
        index = resume_state.get("extras", {}).get("stage", 0)
        if index >= len(self.stages):
            raise ValueError(
                f"it is of stage {index + 1}, and there are {len(self.stages)}"
            )
        if index != self.index:
            self.enter(index, None)
        super().resume_training(resume_state)
