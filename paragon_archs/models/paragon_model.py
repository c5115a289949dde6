"""The image model: what a user expects of training today, inside BasicSR.

Origin: written for this pack (MIT); the frame (feed_data, optimize_parameters, test,
validation, save) is BasicSR's. Each piece has its own file beside this one.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from basicsr.archs import build_network
from basicsr.losses.basic_loss import PerceptualLoss
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint import describe, save_state_dict
from ..config.data_check import IMPOSSIBLE
from ..config.errors import SectionError, TrainingError
from ..config.key import Typed
from ..config.sections.run import RunSection
from ..engine.bounds import bounded
from ..engine.checkpointing import checkpoint_blocks, plain_form
from ..engine.convolutions import make_trainable
from ..engine.criteria import Criterion, build_criteria, total_of
from ..engine.ema import Average
from ..engine.guard import Guard, finite_network
from ..engine.heads import fit_head, merge_head, split_head
from ..engine.precision import Precision, set_up_products
from ..engine.stepping import Stepping
from ..engine.validation import validate
from ..engine.whole_image import check_limit, run_within
from ..host.repairs.model import Repaired
from ..losses.feature_bound_loss import FeatureBoundLoss
from ..losses.perceptual_loss import VGGPerceptualLoss
from ..optim.optimizers import fused
from ..utils.registry import MODEL_REGISTRY

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

logger = logging.getLogger("basicsr")

MERGED_MARGIN = 2  # of a merged head: low-resolution pixels that the losses leave out


@MODEL_REGISTRY.register()
class ParagonModel(Stepping, Repaired):
    """Trains an image network.

    A subclass overrides small pieces: `build_networks`, `init_training_settings`,
    `feed_data`, `compute_losses`, `optimize_parameters`, `test`, `state_extras`. One
    iteration is one step of the optimizer; with `accum_iter` N the batch that
    `feed_data` gets is N times as large and is worked off in N parts.

    Args:
        opt: Checked options with every default filled in (see `config.sections`).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.current_iter = 0
        self.lq: Tensor
        self.gt: Tensor
        self.output: Tensor
        self.sections = RunSection.read(opt)
        self.train_opt = self.sections.train
        self.network_arguments: Mapping[str, Any] = opt["network_g"]
        self.average: Average | None = None
        self.layout = (
            torch.channels_last
            if self.train_opt.channels_last
            else torch.contiguous_format
        )
        self.val_memory = self.sections.val.max_memory if self.sections.val else None
        check_limit(self.val_memory)
        self.build_networks()
        if self.is_train:
            self.init_training_settings()

    # Building --------------------------------------------------------------------

    @property
    def static_graph(self) -> bool:
        """Whether each step goes through the network in the same way.

        Processes then learn once in which order gradients come. Stages, adversaries and
        micro-batches change it, recomputed blocks hide it.
        """
        return (
            type(self) is ParagonModel
            and self.is_train
            and self.train_opt.accum_iter == 1
            and not self.train_opt.grad_checkpointing
            and not self.opt.get("find_unused_parameters")
        )

    def build_networks(self) -> None:
        """Builds `net_g` and loads what it starts from."""
        self.net_g = self.build("network_g", "g")

    def build(
        self,
        section: str,
        label: str,
        arguments: Mapping[str, object] | None = None,
        pretrained: bool = True,
    ) -> nn.Module:
        """Builds one network, loads it, moves and wraps it.

        Args:
            section: `network_g`, say.
            label: What follows `network_`.
            arguments: Type and arguments, where they are not the section's.
            pretrained: Whether `path:pretrain_network_*` counts.
        """
        try:
            net = build_network(arguments or self.opt[section])
        except IMPOSSIBLE as error:
            raise SectionError(section, error) from error
        path = self.sections.path
        weights = path.pretrained.get(f"pretrain_network_{label}")
        if pretrained and weights is not None:
            strict = path.strict.get(f"strict_load_{label}", True)
            key = path.param_keys.get(f"param_key_{label}")
            self.load_network(net, weights, strict, key)
        net = net.to(self.device, memory_format=self.layout)
        how = self.train_opt.compile if self.is_train else False
        split = self.opt["num_gpu"] > 1 and not self.opt["dist"]
        if split and (how or self.train_opt.grad_checkpointing):
            # DataParallel's replicas would run the blocks of the first GPU.
            raise ValueError(
                "Expected one GPU per process for train:compile and "
                f"train:grad_checkpointing, but got num_gpu {self.opt['num_gpu']}. Set "
                "num_gpu: 1, or start as many processes with torchrun and --launcher "
                "pytorch."
            )
        if how:
            arguments = how if isinstance(how, Mapping) else {}
            if isinstance(how, str):
                arguments = {"mode": how}
            # In place: the names of the weights stay, which the host's EMA, its
            # checkpoints and ours all need.
            net.compile(**arguments)
        count = sum(p.numel() for p in net.parameters())
        logger.info("Network %s: %s parameters.", type(net).__name__, f"{count:,}")
        return self.model_to_device(net)

    def init_training_settings(self) -> None:
        """Builds what only training needs: average, losses, optimizers, guard."""
        train = self.train_opt
        self.net_g.train()
        if train.ema_decay > 0:
            self.average = Average(
                self.get_bare_model(self.net_g), train.ema_decay, train.ema_warmup
            )
            self.net_g_ema = self.average.network
        set_up_products(self.device, train.matmul_precision)
        self.precision = Precision(train.precision, self.device)
        # Of the trained network, not of the average.
        make_trainable(
            self.get_bare_model(self.net_g), self.precision, self.layout, self.device
        )
        if train.grad_checkpointing:
            checkpoint_blocks(self.get_bare_model(self.net_g))
        self.set_up_losses()
        self.setup_optimizers()
        self.setup_schedulers()
        self.guard = Guard(
            train.nonfinite.restore_after,
            train.nonfinite.stop_after,
            self._weights,
            self._take_weights,
        )
        self.guard.remember()

    def set_up_losses(self) -> None:
        """Builds the losses, and the form of the head that they are computed with."""
        train = self.train_opt
        self.criteria = build_criteria(train).to(self.device)
        bare = self.get_bare_model(self.net_g)
        split_head(bare)
        if train.merge_head:
            merge_head(bare)
        margin = train.loss_margin
        if margin is None:
            margin = MERGED_MARGIN if train.merge_head else 0
        if train.merge_head and margin == 0:
            raise ValueError(
                "Expected train:loss_margin to be at least 1 with train:merge_head, "
                "which is wrong at a crop's border, but got 0. Remove loss_margin."
            )
        self.loss_margin = int(margin)

    def fit_head(self, batches: Iterable[Mapping[str, object]]) -> None:
        """Fits the head to the first batches of a run, by least squares.

        Every process fits it to its own samples; process 0's answer is shared.
        """
        bare = self.get_bare_model(self.net_g)

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for data in batches:
                self.feed_data(data)
                yield self.lq, self.gt

        fit_head(bare, pairs(), self.loss_margin or MERGED_MARGIN)
        if self.opt["dist"]:
            for parameter in bare.parameters():
                dist.broadcast(parameter.detach(), 0)
        if self.average:
            self.average.restart(bare)
        self.guard.remember()

    def setup_optimizers(self) -> None:
        """Gives the trainable weights of `net_g` their optimizer."""
        self.optimizer_g = self.optimizer_of(self.net_g, self.train_opt.optim_g)
        self.optimizers.append(self.optimizer_g)

    def optimizer_of(self, net: nn.Module, section: Typed) -> torch.optim.Optimizer:
        """Returns the optimizer of one section, for the weights that train."""
        params = [p for p in net.parameters() if p.requires_grad]
        quick = fused(section.type, params, section.arguments)
        return self.get_optimizer(section.type, params, **section.arguments, **quick)

    # One iteration ---------------------------------------------------------------

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes a batch: `lq` (B, C, h, w) and, where there is one, `gt`."""
        self.lq = self.to_device(data["lq"])
        if "gt" in data:
            self.gt = self.to_device(data["gt"])

    def to_device(self, images: Tensor) -> Tensor:
        """Moves images to the device, in the network's memory layout."""
        return images.to(self.device, memory_format=self.layout, non_blocking=True)

    def compute_losses(
        self, lq: Tensor, gt: Tensor, current_iter: int, first: bool = True
    ) -> dict[str, Tensor]:
        """Returns the weighted losses of one micro-batch; leaves `self.output`.

        `first` is True of the first micro-batch of a step.

        The network runs in mixed precision, and so does the one of a perceptual loss
        that compares in float32; the other losses compute in float32 outside of it.
        """
        with self.precision.autocast():
            output = self.net_g(lq)
        half = output.dtype in (torch.bfloat16, torch.float16)
        self.output = output.float() if half else output
        if self.output.shape != gt.shape:
            raise ValueError(
                f"Expected the network's output to have the shape of the HR images "
                f"{tuple(gt.shape)}, but got {tuple(self.output.shape)}. Give "
                "network_g and scale the same factor."
            )
        inner, wanted = self.output, gt
        if border := self.loss_margin * (gt.shape[-1] // lq.shape[-1]):
            inner, wanted = (
                x[..., border:-border, border:-border] for x in (inner, wanted)
            )
        losses: dict[str, Tensor] = {}
        for criterion in self.criteria:
            assert isinstance(criterion, Criterion)
            if isinstance(criterion.loss, FeatureBoundLoss):
                losses |= self.bound_features(criterion, lq, current_iter)
                continue
            with self.autocast_of(criterion.loss):
                losses |= criterion(inner, wanted, current_iter)
        if not losses:
            raise ValueError(
                "Expected at least one loss to count, but got none at iteration "
                f"{current_iter}. Let one of train:losses start at 0."
            )
        return losses

    def autocast_of(self, loss: nn.Module) -> contextlib.AbstractContextManager[object]:
        """Returns the context of a loss.

        That is mixed precision for a perceptual one on a GPU, where its network is most
        of the step.
        """
        # A style's Gram matrices leave the range of halves.
        host = isinstance(loss, PerceptualLoss) and not loss.style_weight
        if self.device.type != "cpu" and (host or isinstance(loss, VGGPerceptualLoss)):
            return self.precision.autocast()
        return contextlib.nullcontext()

    def bound_features(
        self, criterion: Criterion, lq: Tensor, current_iter: int
    ) -> dict[str, Tensor]:
        """Returns what drawn pictures cost, weighted; they pass the network too."""
        factor = criterion.weight_at(current_iter)
        if factor == 0:
            return {}
        assert isinstance(criterion.loss, FeatureBoundLoss)
        with self.precision.autocast():
            cost = bounded(
                self.get_bare_model(self.net_g), criterion.loss, lq, current_iter
            )
        return {f"l_{criterion.name}": factor * cost}

    def optimize_parameters(  # type: ignore[override] (the host's base is a sketch)
        self, current_iter: int
    ) -> None:
        """Does one step: forward and backward of every micro-batch, then the step."""
        self.optimizer_g.zero_grad(set_to_none=True)
        losses = self.gather_losses(self.backward(current_iter))
        if self.step(self.optimizer_g, self.net_g, losses, current_iter):
            self.update_average()
        self.last_losses = [losses]

    def backward(
        self, current_iter: int, outputs: list[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Accumulates the gradient of all micro-batches; returns their mean losses.

        Args:
            current_iter: Counted from 1.
            outputs: Takes the network's output for each micro-batch, detached.
        """
        parts = self.train_opt.accum_iter
        sums: dict[str, Tensor] = {}
        for index, (lq, gt) in enumerate(
            zip(self.lq.chunk(parts), self.gt.chunk(parts), strict=True)
        ):
            with self.gradient_sync(self.net_g, index == parts - 1):
                losses = self.compute_losses(lq, gt, current_iter, first=index == 0)
                self.precision.scaler.scale(total_of(losses) / parts).backward()
            if outputs is not None:
                outputs.append(self.output.detach())
            for name, value in losses.items():
                part = value.detach().float().mean() / parts
                sums[name] = sums[name] + part if name in sums else part
        return sums

    def gradient_sync(
        self, net: nn.Module, last: bool
    ) -> contextlib.AbstractContextManager[object]:
        """Lets processes exchange gradients only with the last micro-batch."""
        if isinstance(net, DistributedDataParallel) and not last:
            return net.no_sync()
        return contextlib.nullcontext()

    def update_average(self) -> None:
        """Moves the averaged weights after a step."""
        if self.average is not None:
            self.average.update(self.get_bare_model(self.net_g))

    # Validation ------------------------------------------------------------------

    def test(self) -> None:
        """Fills `self.output` from `self.lq` with the averaged weights, if any."""
        net = self.average.network if self.average else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        with plain_form(net):
            self.output = run_within(net, self.lq, self.val_memory)
        net.train(was_training)

    def get_current_visuals(  # type: ignore[override] (the host's base is a sketch)
        self,
    ) -> dict[str, Tensor]:
        """Returns input, result and, where there is one, the target, on the CPU."""
        shown = {"lq": self.lq, "result": self.output}
        if hasattr(self, "gt"):
            shown["gt"] = self.gt
        return {name: value.detach().float().cpu() for name, value in shown.items()}

    def validation(
        self,
        dataloader: object,
        current_iter: int,
        tb_logger: SummaryWriter | None,
        save_img: bool = False,
    ) -> None:
        """Validates on one set; see `validation.validate`."""
        self.settle()
        validate(self, dataloader, current_iter, tb_logger, save_img)

    # Saving ----------------------------------------------------------------------

    def released(self) -> nn.Module:
        """Returns the network whose weights are released: the average, if any."""
        return self.average.network if self.average else self.get_bare_model(self.net_g)

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes the released weights as `net_g_<iteration>.safetensors`."""
        self.save_released("latest" if current_iter == -1 else str(current_iter))

    def save_released(self, label: str) -> None:
        """Writes the released weights under a label; only rank 0 writes.

        Raises:
            TrainingError: when they are not finite; nothing is written then.
            OSError: when the disk is full.
        """
        self.settle()
        if self.opt["rank"] != 0:
            return
        net = self.released()
        if not finite_network(net):
            raise TrainingError(
                f"Expected finite weights, but got a non-finite one in {label!r}. "
                "Nothing was written; lower the rate."
            )
        path = Path(self.opt["path"]["models"], f"net_g_{label}.safetensors")
        save_state_dict(net.state_dict(), path, self.metadata(net))

    def metadata(self, net: nn.Module) -> dict[str, str]:
        """Returns the metadata of a released file."""
        section = dict(self.network_arguments)
        kind = section.pop("type")
        known = describe(net)
        known.setdefault("arguments", json.dumps(section))
        known["type"] = kind
        known.setdefault("scale", str(self.opt["scale"]))
        known["iteration"] = str(self.current_iter)
        known["weights"] = "average" if self.average else "trained"
        if licence := self.sections.logger.licence:
            known["licence"] = licence
        return known

    # State -----------------------------------------------------------------------

    def state_extras(self) -> dict[str, Any]:
        """Returns the average's counter, the scaler and the guard's counters."""
        self.settle()
        return {
            "average_updates": self.average.updates if self.average else 0,
            "scaler": self.precision.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "worst": [loss.worst for loss in self.bounds()],
        }

    def load_state_extras(self, extras: Mapping[str, Any]) -> None:
        """Takes back what `state_extras` gave."""
        if not extras:
            return
        if self.average:
            self.average.updates = extras["average_updates"]
        if extras["scaler"]:
            self.precision.scaler.load_state_dict(extras["scaler"])
        self.guard.load_state_dict(extras["guard"])
        for loss, worst in zip(self.bounds(), extras.get("worst", ()), strict=False):
            loss.worst = self.to_device(worst)
        self.guard.remember()

    def bounds(self) -> list[FeatureBoundLoss]:
        """Returns the losses that keep a drawn picture from step to step."""
        losses = (criterion.loss for criterion in self.criteria)
        return [loss for loss in losses if isinstance(loss, FeatureBoundLoss)]

    def _weights(self) -> dict[str, Any]:
        return {
            "networks": {n: net.state_dict() for n, net in self.networks().items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "updates": self.average.updates if self.average else 0,
        }

    def _take_weights(self, weights: Mapping[str, Any]) -> None:
        for name, net in self.networks().items():
            net.load_state_dict(weights["networks"][name])
        for optimizer, state in zip(
            self.optimizers, weights["optimizers"], strict=True
        ):
            optimizer.load_state_dict(state)
        if self.average:
            self.average.updates = weights["updates"]
