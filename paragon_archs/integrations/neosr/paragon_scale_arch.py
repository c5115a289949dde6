"""Networks of paragon_archs in neosr: its scale, lower-case names, its conversion.

neosr passes no scale to a network: its own take the one of the option file or of
`convert.py -s` when they are imported, and so do ours with this file beside them. Nor
can `convert.py` be given a network's options: what the weights of its `--input` record
is what our networks are then built with.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import torch

from ..utils.registry import ARCH_REGISTRY
from .arch_util import net_opt

KEYS = ("params-ema", "params", "params_ema")  # in the order in which neosr looks


def recorded() -> dict[str, Any]:
    """Returns options of the network whose weights `convert.py --input` names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--input")
    file = parser.parse_known_args()[0].input
    if file is None:
        return {}
    weights = torch.load(file, map_location="cpu", weights_only=True)
    weights = next((weights[key] for key in KEYS if key in weights), weights)
    options: dict[str, Any] = {
        "use_rca": any("conv_first.enhanced_path." in key for key in weights)
    }
    if "settings" in weights:
        alpha, window = weights["settings"].tolist()
        options |= {"upsampler_alpha": alpha / 1_000_000, "window_size": window}
    return options


SCALE = net_opt()[0]
DEFAULTS: dict[str, Any] = {**({"scale": SCALE} if SCALE else {}), **recorded()}


def adopt(module: Any) -> None:
    """Gives the networks of a module neosr's defaults and their variants' names."""
    for values in module.VARIANTS.values():
        values |= {k: v for k, v in DEFAULTS.items() if k in values}
    for network in vars(module).values():
        if getattr(network, "__module__", None) != module.__name__:
            continue
        build: Any = network.__init__ if isinstance(network, type) else network
        defaults = getattr(build, "__kwdefaults__", None) or {}
        if "scale" in defaults:  # a class
            defaults |= {k: v for k, v in DEFAULTS.items() if k in defaults}
        elif SCALE and getattr(network, "__name__", "") in module.VARIANTS:
            network.__defaults__ = (SCALE,)  # a variant: scale is its only default
    for name, values in module.VARIANTS.items():
        if name not in ARCH_REGISTRY:
            ARCH_REGISTRY.register(_variant(module, name, values))


def _variant(module: Any, name: str, values: dict[str, Any]) -> Any:
    kind = next(v for k, v in vars(module).items() if k.lower() == name)

    def build(**options: Any) -> Any:
        return kind(**{**values, **options})

    build.__name__ = name
    return build


for _file in sorted(Path(__file__).parent.glob("*_arch.py")):
    if b"\nVARIANTS:" in _file.read_bytes():
        adopt(importlib.import_module(f"{__package__}.{_file.stem}"))
