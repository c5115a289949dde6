"""What a resumed run takes from its state, and what from its option file.

The state gives weights, moments, statistics and the position; the option file gives
rates, schedules and everything else. The log reports where the two differ.
"""

from __future__ import annotations

import logging
import reprlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .model import Extending, Model

logger = logging.getLogger("basicsr")

# Entries of a parameter group that a schedule moves; the option file has them anew.
SCHEDULED = {"lr", "betas", "momentum"}


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields key, present value and former value of every entry that differs.

    An absent entry equals None. Lists of plain values are compared as a whole.
    """
    before, after = dict(_flatten(then)), dict(_flatten(now))
    for key in {**after, **before}:
        if before.get(key) != after.get(key):
            yield key, after.get(key), before.get(key)


def _flatten(section: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{key}:")
        elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
            yield from _flatten(dict(enumerate(value)), f"{key}:")
        else:
            yield key, value


def describe(value: object) -> str:
    """Returns an option's value as a log line shows it."""
    return "nothing" if value is None else reprlib.repr(value)


def report_changes(state: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Logs one line for each option that differs from what a state recorded."""
    if "options" not in state:
        logger.info("The state keeps no options; those of the option file count.")
        return
    for key, now, then in differences(state["options"], recorded):
        logger.warning(
            "Resuming with %s %s instead of %s.", key, describe(now), describe(then)
        )


def options_of_optimizers(options: Mapping[str, Any]) -> set[str]:
    """Returns the names of all arguments that option files give to optimizers."""
    sections = (options.get("train") or {}).items()
    return {
        argument
        for name, section in sections
        if str(name).startswith("optim_") and isinstance(section, Mapping)
        for argument in section
    }


def load_optimizer(
    optimizer: Optimizer, state: Mapping[str, Any], named: set[str]
) -> None:
    """Takes an optimizer's moments back; its rates stay those it was built with.

    Args:
        optimizer: Fresh, built from the option file.
        state: What its `state_dict` was.
        named: Arguments that the option file gives, or gave: their present values
            count. What an optimizer itself keeps in its groups comes from the state.

    Raises:
        ValueError: when the state is of other parameters.
    """
    fresh = [
        {k: v for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
    ]
    # Whether a step is one kernel is this machine's affair; moments go where it wants
    # them.
    groups = [
        {**group, **({"fused": own["fused"]} if "fused" in own else {})}
        for group, own in zip(state["param_groups"], fresh, strict=False)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group, own in zip(optimizer.param_groups, fresh, strict=True):
        own.setdefault("initial_lr", own["lr"])  # what a warm-up rises to
        for name, value in own.items():
            # What a schedule adds to a group is none of the optimizer's defaults.
            if name in named | SCHEDULED or name not in optimizer.defaults:
                group[name] = value
    if lost := set(optimizer.defaults) - set(optimizer.param_groups[0]):
        raise ValueError(
            f"its optimizer is no {type(optimizer).__name__}, which needs {min(lost)!r}"
        )


def replay(scheduler: LRScheduler, steps: int) -> None:
    """Brings a fresh schedule where it is after a number of steps.

    A schedule follows from the option file and the step; so one whose length or
    milestones have changed since the state was written goes on as if it had always
    been so.
    """
    with warnings.catch_warnings():
        # torch warns of a schedule that moves before its optimizer.
        warnings.filterwarnings("ignore", message="Detected call of")
        for _ in range(steps):
            scheduler.step()


def networks_of(model: Model) -> dict[str, nn.Module]:
    """Returns every network that a resumed run must find again, by its name."""
    found = {
        name: model.get_bare_model(value)
        for name, value in vars(model).items()
        if name.startswith("net_") and isinstance(value, nn.Module)
    }
    return dict(sorted(found.items()))


def training_state(model: Model) -> dict[str, Any]:
    """Returns all that a model of the host or the pack needs to go on exactly."""
    extras = model.state_extras() if isinstance(model, Extending) else {}
    return {
        "networks": {n: net.state_dict() for n, net in networks_of(model).items()},
        "optimizers": [o.state_dict() for o in model.optimizers],
        "schedulers": [s.state_dict() for s in model.schedulers],
        "best_metric_results": getattr(model, "best_metric_results", {}),
        "extras": extras,
    }


def restore(model: Model, state: Mapping[str, Any]) -> None:
    """Brings a model where a training state left it.

    Raises:
        ValueError: when the state belongs to another model; it names the difference.
        KeyError: when it lacks a part.
    """
    _restore_networks(model, state)
    _restore_rates(model, state)
    if state.get("best_metric_results"):
        model.best_metric_results = state["best_metric_results"]
    if isinstance(model, Extending):
        model.load_state_extras(state.get("extras", {}))


def _restore_networks(model: Model, state: Mapping[str, Any]) -> None:
    ignored = model.opt["path"].get("ignore_resume_networks") or ()
    names = (ignored,) if isinstance(ignored, str) else ignored
    skip = {n.replace("network_", "net_") for n in names}
    networks, saved = networks_of(model), state.get("networks", {})
    if unknown := sorted(skip - set(networks)):
        raise ValueError(
            "path:ignore_resume_networks names no network of this run: "
            f"{unknown[0].replace('net_', 'network_')!r}"
        )
    for name, net in networks.items():
        # An average that the state lacks begins with the weights it follows, and goes
        # with them where they are ignored.
        followed = name.removesuffix("_ema")
        weights = saved.get(name, saved.get(followed))
        if weights is None or skip & {name, followed}:
            continue
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            own = net.state_dict()
            odd = [k for k in own if k not in weights] or [
                k for k in weights if k not in own or own[k].shape != weights[k].shape
            ]
            raise ValueError(
                f"its {name} is another network, {odd[0]!r} does not fit"
            ) from error


def _restore_rates(model: Model, state: Mapping[str, Any]) -> None:
    saved = state["optimizers"]
    if len(saved) != len(model.optimizers):
        raise ValueError(
            f"it has {len(saved)} optimizers instead of {len(model.optimizers)}"
        )
    named = options_of_optimizers(model.opt)
    named |= options_of_optimizers(state.get("options", {}))
    for optimizer, own in zip(model.optimizers, saved, strict=True):
        load_optimizer(optimizer, own, named)
    if not model.schedulers:
        return
    # A stage's schedule begins with the stage, and is as long.
    length = getattr(model, "schedule_length", None) or model.opt["train"]["total_iter"]
    done = state["iter"] - getattr(model, "schedule_start", 0)
    for scheduler in model.schedulers:
        replay(scheduler, max(0, min(done, length) - 1))
