"""Five published super-resolution systems as a plug-in pack for BasicSR."""

from __future__ import annotations

from .archs import create, variants
from .utils.registry import HAS_BASICSR

if HAS_BASICSR:
    from . import data, losses, metrics, models  # noqa: F401 (they register)

__version__ = "0.1.0"

__all__ = ["HAS_BASICSR", "__version__", "create", "variants"]
