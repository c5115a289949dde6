"""Imports the modules of a room by their suffix, as BasicSR's own rooms do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def import_all(package: str, suffix: str) -> None:
    """Imports every module of `package` whose name ends in `suffix`, in order.

    Args:
        package: An imported package's `__name__`.
        suffix: `_model`, `_dataset`, `_loss` or `_metric`.
    """
    file = sys.modules[package].__file__
    assert file is not None  # a room is a folder with an __init__.py
    for module in sorted(Path(file).parent.glob(f"*{suffix}.py")):
        importlib.import_module(f"{package}.{module.stem}")
