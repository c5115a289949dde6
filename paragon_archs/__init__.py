"""Five published super-resolution systems as a plug-in pack for BasicSR.

Importing the pack loads neither torch nor BasicSR. It registers in BasicSR as soon as
both are imported, in either order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .host import hook

if TYPE_CHECKING:
    from .archs import create, variants

    HAS_BASICSR: bool
    """True when BasicSR is installed and can be imported; asking imports it."""

__version__ = "0.1.0"

__all__ = ["HAS_BASICSR", "__version__", "create", "variants"]

_LAZY = {
    "HAS_BASICSR": "utils.registry",
    "create": "archs",
    "variants": "archs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


hook.arm()
