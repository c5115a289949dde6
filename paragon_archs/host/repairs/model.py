"""What every model class of the host needs to train on a current machine.

`Repaired` holds the methods; this pack's models inherit them, and the table of patches
puts them in place of the host's own, so that its model classes train under our
`basicsr` command as well.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from basicsr.models.base_model import BaseModel
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ...checkpoint import (
    find_architecture,
    read_pickle,
    read_state_dict,
    write_pickle,
)
from ...config.errors import TrainingError, wrong
from ...config.sections.training import TrainSection
from ...engine.ema import follow_buffers, follow_weights
from ...engine.resuming import networks_of, restore
from ...optim.optimizers import build_optimizer
from ...optim.schedulers import build_scheduler, step_learning_rates
from ...weights import resolve

logger = logging.getLogger("basicsr")


class Replicas(DataParallel):
    """torch's DataParallel, whose replicas keep the dtype of autocast.

    Each replica runs in a thread of its own, where torch switches autocast on again
    but in its default dtype: float16, whatever the caller's is.
    """

    def parallel_apply(
        self, replicas: Sequence[Any], inputs: Sequence[object], kwargs: object
    ) -> list[object]:
        """Runs every replica on its part of the batch."""
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            replicas = [_autocast(replica, dtype) for replica in replicas]
        return super().parallel_apply(replicas, inputs, kwargs)


def _autocast(
    replica: Callable[..., object], dtype: torch.dtype
) -> Callable[..., object]:
    def run(*inputs: object, **kwargs: object) -> object:
        with torch.autocast("cuda", dtype):
            return replica(*inputs, **kwargs)

    return run


class Repaired(BaseModel):
    """The host's BaseModel, with what breaks in it made whole."""

    opt: dict[str, Any]
    device: torch.device
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[torch.optim.lr_scheduler.LRScheduler]
    metric_results: dict[str, Any]
    best_metric_results: dict[str, dict[str, Any]]
    net_g: nn.Module
    net_g_ema: nn.Module

    # Devices and processes -------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to its device and wraps it for several processes or GPUs."""
        net = net.to(self.device)
        if self.opt["dist"]:
            on_gpu = self.device.type == "cuda"
            wrapped = DistributedDataParallel(  # which shares weights and buffers once
                net,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                find_unused_parameters=self.opt.get("find_unused_parameters") or False,
                gradient_as_bucket_view=True,  # no second copy of the gradients
                # The host's own classes have no such property.
                static_graph=getattr(self, "static_graph", False),
            )
            # In each step no more: an argument of two names, by torch's version.
            wrapped.broadcast_buffers = _has_statistics(net)
            return wrapped
        return Replicas(net) if self.opt["num_gpu"] > 1 else net

    # Optimizers and rates --------------------------------------------------------

    def get_optimizer(  # type: ignore[override] (the host's knows Adam alone)
        self, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Returns any optimizer of torch."""
        return build_optimizer(optim_type, params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        """Gives every optimizer its schedule; without one the rate is constant."""
        # A stage has options of its own.
        own = getattr(self, "train_opt", None)
        section = (own or TrainSection.read(self.opt["train"])).scheduler
        if section is None:
            return
        for optimizer in self.optimizers:
            self.schedulers.append(
                build_scheduler(
                    section.type,
                    optimizer,
                    # A stage's schedule is as long as the stage.
                    getattr(self, "schedule_length", self.opt["train"]["total_iter"]),
                    self.opt.get("iterations_per_epoch", 1),
                    **section.arguments,
                )
            )

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Sets the rates of iteration `current_iter` (from 1)."""
        step_learning_rates(self.optimizers, self.schedulers, current_iter, warmup_iter)

    # Average ---------------------------------------------------------------------

    def model_ema(self, decay: float = 0.999) -> None:
        """Moves the averaged network, with its buffers, towards the trained one."""
        bare = self.get_bare_model(self.net_g)
        follow_weights(self.net_g_ema, bare, decay)
        follow_buffers(self.net_g_ema, bare)

    # Losses ----------------------------------------------------------------------

    def reduce_loss_dict(
        self, loss_dict: Mapping[str, Tensor]
    ) -> OrderedDict[str, float]:
        """Averages losses over processes; every process gets the same numbers.

        Raises:
            TrainingError: under a model of the host, when a loss is not finite: its
                step is done by then, and the weights are lost.
        """
        names = list(loss_dict)
        values = torch.stack([loss_dict[n].detach().float().mean() for n in names])
        if self.opt["dist"]:
            dist.all_reduce(values)
            values /= self.opt["world_size"]
        losses = OrderedDict(zip(names, values.tolist(), strict=True))
        bad = [n for n, v in losses.items() if not math.isfinite(v)]
        if bad:
            raise TrainingError(
                f"Expected finite losses, but got {losses[bad[0]]} for {bad[0]!r}. Go "
                "on from the last checkpoint with a lower rate, or use model_type: "
                "ParagonModel, which skips such steps."
            )
        return losses

    # Weight files ----------------------------------------------------------------

    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int,
        param_key: str | list[str] = "params",
    ) -> None:
        """Writes `.pth` weights as the host names them; whole, or an error."""
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        states = {
            key: {n: v.cpu() for n, v in self.get_bare_model(one).state_dict().items()}
            for key, one in zip(keys, nets, strict=True)
        }
        if self.opt["rank"] == 0:
            name = "latest" if current_iter == -1 else current_iter
            folder = Path(self.opt["path"]["models"])
            write_pickle(states, folder / f"{net_label}_{name}.pth")

    def load_network(
        self,
        net: nn.Module,
        load_path: str,
        strict: bool = True,
        param_key: str | None = "params",
    ) -> None:
        """Loads weights out of any weight file, whatever they are wrapped in.

        Args:
            net: Network to fill.
            load_path: `.safetensors`, `.pth`, `.pt`, `.ckpt`.
            strict: Whether every tensor must fit; else those that do are loaded.
            param_key: Which of several sets of weights in a `.pth` is meant.

        Raises:
            OptionError: when they are another network's.
        """
        path = self.opt["path"]
        key = next((k for k, v in path.items() if v == load_path), "load_path")
        any_scale = path.get("pretrain_scale") == "any"
        bare = self.get_bare_model(net)
        load_weights(bare, load_path, f"path:{key}", strict, param_key, any_scale)

    # Training states -------------------------------------------------------------

    def networks(self) -> dict[str, nn.Module]:
        """Returns every network that a resumed run must find again, by its name."""
        return networks_of(self)

    def state_extras(self) -> dict[str, Any]:
        """Returns what a subclass keeps beyond networks, optimizers and schedules."""
        return {}

    def load_state_extras(self, extras: Mapping[str, object]) -> None:
        """Takes back what `state_extras` gave."""

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Does nothing: the pipeline writes states, with positions and RNG in them."""

    def resume_training(self, resume_state: Mapping[str, object]) -> None:
        """Takes networks, optimizers and schedules back from a training state.

        Raises:
            ValueError: when the state is of another model; it names the difference.
            KeyError: when it lacks a part.
        """
        restore(self, resume_state)


def _has_statistics(net: nn.Module) -> bool:
    """Whether buffers follow the data, so that those of processes would part."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.track_running_stats
        for module in net.modules()
    )


def load_weights(
    net: nn.Module,
    path: str,
    key: str,
    strict: bool = True,
    param_key: str | None = None,
    any_scale: bool = False,
) -> None:
    """Fills `net` out of a weight file; see `Repaired.load_network`.

    Args:
        net: Network to fill.
        path: A weight file.
        key: The option that names it, for messages.
        strict: Whether every tensor must fit.
        param_key: Which of several sets of weights in a `.pth` is meant.
        any_scale: Whether a network of another scale may lend all but its head.
    """
    try:
        path = str(resolve(path))
    except (FileNotFoundError, ValueError) as error:
        raise wrong("no_weights", key=key, value=path, place="path") from error
    state = read_state_dict(path)
    state = _pick(path, param_key) or state
    own = net.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    left = [name for name in own if name not in fitting]
    if len(fitting) < len(state) or left:
        scales = scales_of(net, state)
        lends = any_scale and (scales is not None or len(fitting) > len(own) / 2)
        if strict and not lends and scales is not None:
            raise wrong(
                "other_scale",
                key=key,
                wanted=scales[0],
                value=path,
                network=type(net).__name__,
                held=scales[1],
                place="path",
            )
        if not fitting or (strict and not lends):
            raise wrong("other_network", **describe_misfit(net, state, key, path))
    net.load_state_dict(fitting, strict=not left and strict)
    logger.info(
        "Loaded %d of %d tensors of %s from %s%s.",
        len(fitting),
        len(own),
        type(net).__name__,
        path,
        f"; fresh are {', '.join(left)}" if left else "",
    )


def scales_of(net: nn.Module, state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Returns the scales of a network and of weights that differ by nothing else.

    Returns:
        None when they differ by more, or when no architecture of the pack shows it.
    """
    found = [find_architecture(s) for s in (net.state_dict(), state)]
    if found[0] is None or found[0] is not found[1]:
        return None
    own, held = (
        dict(found[0].inspect(dict(s)).arguments) for s in (net.state_dict(), state)
    )
    scales = own.pop("scale"), held.pop("scale")
    return scales if own == held and scales[0] != scales[1] else None


def _pick(path: str, param_key: str | None) -> dict[str, Tensor] | None:
    """Returns the set of weights under `param_key`, where the file has several."""
    if param_key is None or not path.endswith(".pth"):
        return None
    content = read_pickle(path)
    chosen = content.get(param_key) if isinstance(content, dict) else None
    if not isinstance(chosen, dict):
        # The host asks for `params` of every file; another name is the user's.
        if param_key != "params":
            logger.warning(
                "%s has no %r; its weights are found anyway.", path, param_key
            )
        return None
    return {k.removeprefix("module."): v for k, v in chosen.items()}


def describe_misfit(
    net: nn.Module, state: Mapping[str, Tensor], key: str, path: str
) -> dict[str, str]:
    """Returns the values of the sentence about weights of another network."""
    own = net.state_dict()
    architecture = find_architecture(state)
    held = "tensors of an unknown network"
    if architecture is not None:
        reading = architecture.inspect(dict(state))
        held = f"a {architecture.name} ({reading.form} form)"
    odd = sorted(set(own) ^ set(state)) or [
        k for k in own if own[k].shape != state[k].shape
    ]
    hint = f"The first tensor that does not fit is {odd[0]!r}." if odd else ""
    return {
        "key": key,
        "wanted": type(net).__name__,
        "value": path,
        "held": held,
        "place": "path",
        "hint": hint,
    }
