"""Networks of paragon_archs in neosr: the command line's scale, lower-case names.

neosr passes no scale to a network: its own take the one of the option file or of
`convert.py -s` when they are imported, and so do ours with this file beside them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..utils.registry import ARCH_REGISTRY
from .arch_util import net_opt

SCALE = net_opt()[0]


def adopt(module: Any) -> None:
    """Gives the networks of a module neosr's scale and their variants' names."""
    for network in vars(module).values():
        if getattr(network, "__module__", None) != module.__name__ or not SCALE:
            continue
        build: Any = network.__init__ if isinstance(network, type) else network
        if "scale" in (getattr(build, "__kwdefaults__", None) or {}):
            build.__kwdefaults__["scale"] = SCALE  # a class
        elif getattr(network, "__name__", "") in module.VARIANTS:
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
