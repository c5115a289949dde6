"""Stand-ins for modules and functions that BasicSR imports and that are gone."""

from __future__ import annotations

import importlib
import types


def functional_tensor() -> types.ModuleType:
    """Returns torchvision's `transforms.functional_tensor`, with what BasicSR uses."""
    functional = importlib.import_module("torchvision.transforms.functional")
    return _module(
        "torchvision.transforms.functional_tensor",
        rgb_to_grayscale=functional.rgb_to_grayscale,
    )


def distutils_version() -> types.ModuleType:
    """Returns `distutils.version`; BasicSR compares two versions with it."""
    vendored = importlib.import_module("torch._vendor.packaging.version")
    return _module("distutils.version", LooseVersion=vendored.Version)


def ndimage_filters() -> types.ModuleType:
    """Returns SciPy's `ndimage.filters`, with what BasicSR uses."""
    ndimage = importlib.import_module("scipy.ndimage")
    return _module("scipy.ndimage.filters", convolve=ndimage.convolve)


def generate_id(length: int = 8) -> str:
    """Returns a new id of a run, as wandb makes it today."""
    return importlib.import_module("wandb.sdk.lib.runid").generate_id(length)


def _module(name: str, **contents: object) -> types.ModuleType:
    module = types.ModuleType(name, "Stand-in by paragon_archs.")
    vars(module).update(contents)
    return module
