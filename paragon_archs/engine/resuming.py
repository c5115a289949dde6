"""What a resumed run takes from its state, and what from its option file.

The state gives weights, moments, statistics and the position; the option file gives
rates, schedules and everything else. Where the two differ, the log says so.
"""

from __future__ import annotations

import copy
import reprlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# Sections that change nothing in what is trained. The seed stays the state's.
UNCOMPARED = ("name", "path", "logger", "dist_params", "manual_seed")

# Entries of a parameter group that a schedule moves; the option file has them anew.
SCHEDULED = {"lr", "betas", "momentum"}


def record(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of checked options that a state keeps, to compare with later."""
    kept = {k: v for k, v in options.items() if k not in UNCOMPARED}
    return copy.deepcopy(kept)


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


def describe(value: Any) -> str:
    """Returns an option's value as a log line shows it."""
    return "nothing" if value is None else reprlib.repr(value)


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
    optimizer.load_state_dict(dict(state))
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
