"""Optimizers by their names in option files: torch's, SOAP, pytorch-optimizer's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .soap import SOAP

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: entry
    for name, entry in vars(torch.optim).items()
    if inspect.isclass(entry)
    and issubclass(entry, torch.optim.Optimizer)
    # LBFGS wants a closure that computes the loss several times in one step.
    and entry not in (torch.optim.Optimizer, torch.optim.LBFGS)
} | {"SOAP": SOAP}


FUSED = ("Adam", "AdamW", "SGD")  # whose step on CUDA may be one kernel
EXTRA = "pytorch_optimizer"  # the package pytorch-optimizer


@functools.cache
def extra_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Returns the optimizers of pytorch-optimizer; none where it is not installed.

    Its SOAP is not among them: it takes twice the time of ours a step, leaves the first
    step out and fails for some shapes with `merge_dims`. Neither are optimizers around
    another one, nor those whose weights at validation are not those of training.
    """
    if importlib.util.find_spec(EXTRA) is None:
        return {}
    return {
        name: entry
        for name, entry in vars(importlib.import_module(EXTRA)).items()
        if inspect.isclass(entry)
        and issubclass(entry, torch.optim.Optimizer)
        and name not in (*OPTIMIZERS, "Optimizer", "BaseOptimizer", "LBFGS")
        and not name.startswith("ScheduleFree")
        and not _needed(entry)
    }


def _needed(entry: type) -> list[str]:
    """Returns the arguments beside `params` that an optimizer cannot do without."""
    return [
        name
        for name, parameter in inspect.signature(entry).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and name != "params"
    ]


def find_optimizer(kind: str) -> type[torch.optim.Optimizer]:
    """Returns the class called `kind`.

    Raises:
        ValueError: when there is none.
    """
    found = OPTIMIZERS.get(kind) or extra_optimizers().get(kind)
    if found is None:
        more = "" if extra_optimizers() else " or install pytorch-optimizer for more"
        raise ValueError(
            f"Expected the optimizer's type to be one of {', '.join(OPTIMIZERS)}, but "
            f"got {kind!r}. Choose one of them{more}."
        )
    return found


def build_optimizer(
    kind: str, params: Iterable[nn.Parameter], **arguments: Any
) -> torch.optim.Optimizer:
    """Returns the optimizer called `kind`.

    Args:
        kind: A class of `torch.optim` or of pytorch-optimizer, or SOAP.
        params: What it updates.
        **arguments: Its own arguments, `lr` among them.

    Raises:
        ValueError: when there is no such optimizer, it cannot train the weights of a
            convolution, or a value is out of range.
        TypeError: for an argument that it does not have.
    """
    optimizer = find_optimizer(kind)
    _try(optimizer, arguments)
    return optimizer(params, **arguments)


def fused(
    kind: str, params: Sequence[nn.Parameter], arguments: Mapping[str, object]
) -> dict[str, bool]:
    """Returns the argument that makes a step one kernel, where that is possible.

    On CUDA alone: a CPU's results would differ in the last bits.
    """
    own = {"fused", "foreach", "capturable", "differentiable"} & set(arguments)
    on_cuda = all(p.is_cuda and p.is_floating_point() for p in params)
    return {"fused": True} if kind in FUSED and on_cuda and not own else {}


def _try(kind: type[torch.optim.Optimizer], arguments: dict[str, Any]) -> None:
    """Lets an optimizer step on a small convolution, on the CPU.

    Some take sparse gradients, or matrices alone, and say so in the first step only.
    """
    weight = nn.Parameter(torch.ones(1, 1, 3, 3))
    weight.grad = torch.ones_like(weight)
    own = {k: v for k, v in arguments.items() if k not in ("fused", "capturable")}
    try:
        with torch.random.fork_rng(devices=[]):
            kind([weight], **own).step()
    except (RuntimeError, AttributeError, *_refusals()) as error:
        raise ValueError(
            f"Expected an optimizer that trains the weights of convolutions, but got "
            f"{kind.__name__!r}: {' '.join(str(error).split())}. Choose AdamW, say."
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """Returns what pytorch-optimizer raises where it needs more than a gradient."""
    if EXTRA not in sys.modules:
        return ()
    module = importlib.import_module(f"{EXTRA}.base.exception")
    found = (entry for entry in vars(module).values() if inspect.isclass(entry))
    return tuple(entry for entry in found if issubclass(entry, Exception))
