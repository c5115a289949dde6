"""Packages that the pack uses where they are installed."""

from __future__ import annotations

import importlib
import shlex
from types import ModuleType
from typing import Any

_EXTRAS = {
    "pillow": "upscale",
    "imagecodecs": "upscale",
    "tifffile": "upscale",
    "av": "video",
    "onnxruntime": "onnx",
}
"""Package -> the extra of this pack that brings it and what else is needed then."""


def need(module: str, purpose: str, package: str) -> ModuleType:
    """Imports an optional package, or raises one sentence on how to get it.

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
        brings = f"paragon-archs[{_EXTRAS[package]}]" if package in _EXTRAS else package
        name = root if "[" in package else package
        raise ImportError(
            f"Expected {name} to be installed, for {purpose}, but it is not. "
            f"Run `pip install {shlex.quote(brings)}`.",
            name=error.name,
        ) from error
    return importlib.import_module(module)


def start_tensorrt(tensorrt: ModuleType, part: str, log: object) -> Any:
    """Returns a new `Builder` or `Runtime` of the tensorrt package.

    Args:
        tensorrt: The package.
        part: The name of the class.
        log: A `tensorrt.Logger`.

    Raises:
        RuntimeError: when it does not start.
    """
    try:
        return getattr(tensorrt, part)(log)
    except TypeError as error:  # what its bindings raise for a null pointer
        raise RuntimeError(
            f"Expected TensorRT {tensorrt.__version__} to start on this GPU, but it "
            "did not; its log above says why. Its CUDA version has to suit the driver."
        ) from error
