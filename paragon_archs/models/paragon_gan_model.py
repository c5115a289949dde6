"""The GAN model: one or several discriminators on top of the image model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.losses.loss_util import get_refined_artifact_map
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from ..checkpoint import describe, save_state_dict
from ..engine.convolutions import make_trainable
from ..engine.criteria import total_of
from ..engine.degradation import Degradation
from ..engine.guard import Guard
from ..engine.verdict import Losses
from ..utils.registry import MODEL_REGISTRY
from .paragon_model import ParagonModel

logger = logging.getLogger("basicsr")

HOST_CROP = 400  # of BasicSR's RealESRGANDataset, which has no key for it


@MODEL_REGISTRY.register()
class ParagonGANModel(ParagonModel):
    """Trains an image network against discriminators.

    Every section `network_d`, `network_d2`, ... is a discriminator: one that returns a
    map of logits, or a list of them (`MSD`). All have the optimizer `train:optim_d`
    and the loss `train:gan_opt`; `train:gan_weights` is how much each one's opinion
    counts for the generator. With a section `degradation`, the low-resolution side is
    made by BasicSR's Real-ESRGAN pipeline, on the training device.

    Args:
        opt: Checked options with every default filled in (see `config.sections`).
    """

    degradation: Degradation | None = None
    gan_gt: Tensor

    # Building --------------------------------------------------------------------

    def build_networks(self) -> None:
        """Builds the generator and, for training, the discriminators."""
        super().build_networks()
        if not self.is_train:
            return
        self.labels = sorted(
            name.removeprefix("network_") for name in self.sections.discriminators
        )
        if not self.labels:
            raise ValueError(
                "Expected a discriminator for ParagonGANModel, but got no network_d. "
                "Add network_d with type: UNetDiscriminatorSN or MSD."
            )
        for label in self.labels:
            net = self.build(f"network_{label}", label)
            setattr(self, f"net_{label}", net)
            self._try(label)

    def discriminators(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields label and network of each discriminator, as they are wrapped."""
        for label in self.labels:
            yield label, getattr(self, f"net_{label}")

    def _crop(self) -> int | None:
        """Returns the side of the HR crops, where the options give it."""
        section = self.sections.datasets["train"].arguments
        return section.get("gt_size") or section.get("face_size")

    @torch.no_grad()
    def _try(self, label: str) -> None:
        """Shows a discriminator one empty crop: better now than in the first step."""
        size = self._crop()
        net = self.get_bare_model(getattr(self, f"net_{label}"))
        if size is None:
            return
        channels = self.sections.datasets["train"].arguments.get("channels", 3)
        crop = torch.zeros(1, channels, size, size, device=self.device)
        net.eval()
        try:
            net(crop)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"Expected network_{label} ({type(net).__name__}) to take crops of "
                f"gt_size {size}, but it fails: {' '.join(str(error).split())} Take "
                "another gt_size; UNetDiscriminatorSN wants a multiple of 8."
            ) from error
        finally:
            net.train()

    def init_training_settings(self) -> None:
        """Builds the generator's losses and optimizer, and the discriminators'."""
        train = self.train_opt
        weights = train.gan_weights
        unknown = [name for name in weights if name not in self.labels]
        if unknown:
            raise ValueError(
                f"Expected train:gan_weights to name discriminators out of "
                f"{', '.join(self.labels)}, but got {unknown[0]!r}. Write d for "
                "network_d."
            )
        self.gan_weights = {n: float(weights.get(n, 1.0)) for n in self.labels}
        self.cri_gan = build_loss(train.gan_opt.as_dict()).to(self.device)
        ldl = train.ldl_opt
        self.cri_ldl = build_loss(ldl.as_dict()).to(self.device) if ldl else None
        if self.cri_ldl and not train.ema_decay > 0:
            raise ValueError(
                "Expected train:ema_decay over 0 for train:ldl_opt, which compares "
                "with the averaged network, but got 0. Set it to 0.999."
            )
        if degradation := self.sections.degradation:
            size = degradation.gt_size or self._crop()
            if size is None:
                raise ValueError(
                    "Expected degradation:gt_size for a data set without a gt_size, "
                    "but got none. Give the side of the crops to train on, as 256."
                )
            own = self.sections.datasets["train"].arguments
            crop = own.get("crop_size") or HOST_CROP
            scale = self.sections.scale
            self.degradation = Degradation(degradation, scale, size, crop, self.device)
        super().init_training_settings()
        for _, net in self.discriminators():
            make_trainable(
                self.get_bare_model(net), self.precision, self.layout, self.device
            )
        # Counted apart: a good step of the generator shows nothing about these.
        self.guard_d = Guard(
            train.nonfinite.restore_after,
            train.nonfinite.stop_after,
            dict,
            lambda _: self.guard.restore(),
        )
        self.guard_d.remember()

    def setup_optimizers(self) -> None:
        """Adds the discriminators' optimizers to the generator's."""
        super().setup_optimizers()
        self.optimizers_d = {
            label: self.optimizer_of(net, self.train_opt.optim_d)
            for label, net in self.discriminators()
        }
        self.optimizers += self.optimizers_d.values()

    # One iteration ---------------------------------------------------------------

    def feed_data(self, data: Mapping[str, object]) -> None:
        """Takes a batch; with a degradation, makes its low-resolution side."""
        if self.degradation is not None and "kernel1" in data:
            pairs = self.degradation(data)
            self.lq = self.to_device(pairs.lq)
            self.gt = self.to_device(pairs.loss_gt)
            self.gan_gt = self.to_device(pairs.gan_gt)
            return
        super().feed_data(data)
        if hasattr(self, "gt"):
            self.gan_gt = self.gt

    def logits_loss(self, logits: Any, real: bool, for_generator: bool) -> Tensor:
        """Returns the GAN loss of one discriminator's answer: a map or a list."""
        maps = logits if isinstance(logits, (list, tuple)) else [logits]
        losses = [
            self.cri_gan(m.float(), real, is_disc=not for_generator) for m in maps
        ]
        return torch.stack([loss.mean() for loss in losses]).mean()

    def compute_losses(
        self, lq: Tensor, gt: Tensor, current_iter: int, first: bool = True
    ) -> dict[str, Tensor]:
        """Returns the generator's losses of one micro-batch, the opinions included."""
        losses = super().compute_losses(lq, gt, current_iter, first)
        if self.cri_ldl is not None:
            assert self.average is not None
            with torch.no_grad(), self.precision.autocast():
                smooth = self.average.network(lq).float()
            weight = get_refined_artifact_map(gt, self.output, smooth, 7)
            losses["l_ldl"] = self.cri_ldl(weight * self.output, weight * gt)
        for label, net in self.discriminators():
            bare = self.get_bare_model(net)  # no gradient of it, so nothing to share
            with self.precision.autocast(), power_iteration(bare, first):
                logits = bare(self.output)
            opinion = self.logits_loss(logits, real=True, for_generator=True)
            losses[f"l_g_gan{label[1:]}"] = self.gan_weights[label] * opinion
        return losses

    def optimize_parameters(self, current_iter: int) -> None:
        """Does one step of the generator (when it is due) and of each discriminator."""
        train = self.train_opt
        due = current_iter % train.net_d_iters == 0
        due = due and current_iter > train.net_d_init_iters
        fakes: list[Tensor] = []
        log: list[Losses] = []
        if due:
            for _, net in self.discriminators():
                net.requires_grad_(False)
            self.optimizer_g.zero_grad(set_to_none=True)
            gathered = self.gather_losses(self.backward(current_iter, fakes))
            for _, net in self.discriminators():
                net.requires_grad_(True)
            if self.step(self.optimizer_g, self.net_g, gathered, current_iter):
                self.update_average()
            log.append(gathered)
        else:
            fakes = self._make_fakes()
        for label, net in self.discriminators():
            self.optimizers_d[label].zero_grad(set_to_none=True)
            losses = self.backward_d(label, net, fakes)
            own = self.gather_losses(losses)
            self.step(self.optimizers_d[label], net, own, current_iter, self.guard_d)
            log.append(own)
        self.last_losses = log

    @torch.no_grad()
    def _make_fakes(self) -> list[Tensor]:
        """Returns the generator's output for each micro-batch, without a gradient."""
        fakes = []
        for lq in self.lq.chunk(self.train_opt.accum_iter):
            with self.precision.autocast():
                fakes.append(self.net_g(lq).float())
        self.output = fakes[-1]
        return fakes

    def backward_d(
        self, label: str, net: nn.Module, fakes: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Accumulates a discriminator's gradient; returns its mean losses."""
        parts = len(fakes)
        sums: dict[str, Tensor] = {}
        suffix = label[1:]
        # Real and fake apart, so that no map of one batch has to hold both.
        for name, images in (("real", self.gan_gt.chunk(parts)), ("fake", fakes)):
            real = name == "real"
            for index, image in enumerate(images):
                last = index == parts - 1 and not real
                with self.gradient_sync(net, last):
                    with self.precision.autocast(), power_iteration(net, index == 0):
                        logits = net(image)
                    loss = self.logits_loss(logits, real, for_generator=False)
                    losses = {f"l_d_{name}{suffix}": loss}
                    self.precision.scaler.scale(total_of(losses) / parts).backward()
                losses[f"out_d_{name}{suffix}"] = _mean(logits)
                for key, value in losses.items():
                    part = value.detach().float().mean() / parts
                    sums[key] = sums[key] + part if key in sums else part
        return sums

    # Saving and state ------------------------------------------------------------

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes the generator's released weights, and the discriminators' beside."""
        super().save(epoch, current_iter)
        if self.opt["rank"] != 0:
            return
        label = "latest" if current_iter == -1 else str(current_iter)
        for name, net in self.discriminators():
            bare = self.get_bare_model(net)
            path = Path(self.opt["path"]["models"], f"net_{name}_{label}.safetensors")
            save_state_dict(bare.state_dict(), path, describe(bare))

    def state_extras(self) -> dict[str, Any]:
        """Adds the discriminators' guard and the pool of degraded pairs."""
        pool = self.degradation.state_dict() if self.degradation else None
        return {
            **super().state_extras(),
            "guard_d": self.guard_d.state_dict(),
            "degradation": pool,
        }

    def load_state_extras(self, extras: Mapping[str, Any]) -> None:
        """Takes back what `state_extras` gave."""
        super().load_state_extras(extras)
        if not extras:
            return
        self.guard_d.load_state_dict(extras["guard_d"])
        if self.degradation and extras["degradation"]:
            self.degradation.load_state_dict(extras["degradation"])


@contextlib.contextmanager
def power_iteration(net: nn.Module, first: bool) -> Iterator[None]:
    """Lets spectral norm move with the first micro-batch of a step, and no other.

    Each forward pass in training refines its estimate of a weight's largest singular
    value by a power iteration. The micro-batches of one step stand for one batch, so
    they all get the estimate that this batch would have got.
    """
    held = [
        module
        for module in net.modules()
        if module.training
        and not first
        and (
            isinstance(module, _SpectralNorm)
            or any(
                isinstance(hook, SpectralNorm)
                for hook in module._forward_pre_hooks.values()
            )
        )
    ]
    for module in held:  # itself alone: a convolution has no other training mode
        module.training = False
    try:
        yield
    finally:
        for module in held:
            module.training = True


def _mean(logits: Any) -> Tensor:
    maps = logits if isinstance(logits, (list, tuple)) else [logits]
    return torch.stack([m.detach().float().mean() for m in maps]).mean()
