"""Packages that the pack uses where they are installed."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, purpose: str, package: str) -> Any:
    """Imports an optional package, or says in one sentence how to get it.

    Args:
        module: What to import, `PIL.Image` say.
        purpose: What it is for.
        package: What pip installs to bring it.

    Raises:
        ImportError: when `module` is absent; a broken one raises its own error.
    """
    root = module.split(".", maxsplit=1)[0]
    try:
        importlib.import_module(root)
    except ImportError as error:
        if error.name != root:
            raise
        raise ImportError(
            f"Expected {package} to be installed, for {purpose}, but it is not. "
            f"Run `pip install {package}`.",
            name=error.name,
        ) from error
    return importlib.import_module(module)
