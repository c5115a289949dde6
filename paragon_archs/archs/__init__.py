"""The networks. Scans `*_arch.py` beside this file and merges their `VARIANTS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..utils.nearest import did_you_mean
from ..utils.registry import ARCH_REGISTRY

_VARIANTS: dict[str, dict[str, Any]] = {}
_BUILDERS: dict[str, Callable[..., nn.Module]] = {}  # lower-case name -> builder


def _scan() -> None:
    for file in sorted(Path(__file__).parent.glob("*_arch.py")):
        module = importlib.import_module(f"{__name__}.{file.stem}")
        for name, arguments in getattr(module, "VARIANTS", {}).items():
            if name in _VARIANTS:
                raise ValueError(
                    f"Expected variant names to be unique, but got {name!r} twice, the "
                    f"second time in {file.name}. Rename one of the two."
                )
            _VARIANTS[name] = arguments
        # What is registered and was defined there: the classes and the variants.
        for name, obj in vars(module).items():
            if name in ARCH_REGISTRY and obj.__module__ == module.__name__:
                _BUILDERS[name.lower()] = obj


_scan()


def variants() -> dict[str, dict[str, Any]]:
    """Returns every variant's name and hyperparameters, as copies."""
    return {name: dict(arguments) for name, arguments in _VARIANTS.items()}


def builder(name: str) -> Callable[..., nn.Module]:
    """Returns the class or function registered as `name`, case ignored.

    Raises:
        ValueError: when there is none; names the nearest ones.
    """
    found = _BUILDERS.get(name.lower())
    if found is None:
        hint = did_you_mean(name.lower(), _BUILDERS, "See `paragon variants`.", 3)
        raise ValueError(
            f"Expected name to be one of {', '.join(_VARIANTS)}, or a class of this "
            f"pack, but got {name!r}. {hint}"
        )
    return found


def create(name: str, scale: int = 4, **overrides: Any) -> nn.Module:
    """Builds a network by the name of its variant or class, case ignored.

    Args:
        name: A variant (`paragonsr_s`) or a class (`ParagonSR`).
        scale: Upscaling factor.
        **overrides: Hyperparameters that differ from the variant's.

    Returns:
        The network in training form with fresh weights, float32, on the CPU.

    Raises:
        ValueError: for an unknown name or a value that the network does not allow.
        TypeError: for a hyperparameter that the network does not have.
    """
    return builder(name)(scale=scale, **overrides)
