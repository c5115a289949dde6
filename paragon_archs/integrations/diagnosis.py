"""What a bug report needs: versions, devices, runtimes, hosts and their repairs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

from .. import __version__
from .chainner import HOOK

Section = dict[str, str]

PACKAGES = (
    "torch torchvision numpy safetensors spandrel spandrel_extra_arches pyyaml basicsr "
    "opencv-python pillow scipy pyiqa pytorch-optimizer tensorboard wandb onnx "
    "onnxscript onnxruntime onnxruntime-gpu tensorrt av psutil matplotlib"
).split()

HOSTS = {"traiNNer-redux": "traiNNer", "neosr": "neosr", "ComfyUI": "comfy"}
"""Clients that are checkouts, and a package of theirs that Python finds if they run."""

BROKEN = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError)


def diagnose() -> dict[str, Section]:
    """Returns title -> facts, in the order in which they are shown."""
    return {
        "system": _system(),
        "packages": dict(_packages()),
        "devices": dict(_devices()),
        "runtimes": dict(_runtimes()),
        "hosts": dict(_hosts()),
        "repairs of BasicSR": dict(_repairs()),
    }


def _system() -> Section:
    variables = [f"{k}={v}" for k, v in sorted(os.environ.items()) if _matters(k)]
    return {
        "paragon_archs": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processors": str(os.cpu_count()),
        "environment": ", ".join(variables) or "nothing that matters",
    }


def _matters(variable: str) -> bool:
    """Variables that change what runs; none of them holds a path or a secret."""
    return variable.startswith(("PARAGON_ARCHS_", "OMP_NUM", "CUDA_VISIBLE", "TORCH_C"))


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"


def _devices() -> Iterator[tuple[str, str]]:
    import torch  # noqa: PLC0415 (seconds)

    yield "CPU", f"{torch.get_num_threads()} threads"
    yield "CUDA of torch", str(torch.version.cuda or "none")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = card.total_memory / 2**30
        yield (
            f"cuda:{index}",
            f"{card.name}, {memory:.1f} GiB, compute {card.major}.{card.minor}",
        )
    yield "mps", "available" if torch.backends.mps.is_available() else "none"


def _runtimes() -> Iterator[tuple[str, str]]:
    yield "onnxruntime", _tried("onnxruntime", _providers)
    yield "TensorRT", _tried("tensorrt", lambda module: module.__version__)
    yield "FFmpeg (PyAV)", _tried("av", lambda module: module.ffmpeg_version_info)


def _providers(onnxruntime: Any) -> str:
    return ", ".join(onnxruntime.get_available_providers())


def _hosts() -> Iterator[tuple[str, str]]:
    from ..loaders import PARAGON_REGISTRY, install  # noqa: PLC0415 (imports torch)
    from ..utils.registry import load_host  # noqa: PLC0415

    if importlib.util.find_spec("basicsr") is None:
        yield "BasicSR", "not installed"
    else:
        usable = load_host()
        yield "BasicSR", "usable" if usable else "broken; the warning above says why"
    count = len(list(PARAGON_REGISTRY))
    try:
        install()
        yield "spandrel", f"usable, {count} architectures registered"
    except BROKEN as error:
        yield "spandrel", f"{type(error).__name__}: {error}"
    hook = importlib.util.find_spec(HOOK) is not None
    yield "start-up hook for spandrel", "installed" if hook else "not installed"
    for name, package in HOSTS.items():
        found = importlib.util.find_spec(package) is not None
        yield name, "found" if found else "not in this environment"


def _repairs() -> Iterator[tuple[str, str]]:
    from ..host.patches import rows  # noqa: PLC0415 (imports BasicSR)
    from ..utils.registry import load_host  # noqa: PLC0415

    if not load_host():
        return
    for patch, target, needed in rows():
        words = {True: "needed", False: "not needed", None: "not installed"}[needed]
        yield target.removeprefix("basicsr."), f"{words}: {patch.reason}"


def _tried(module: str, describe: Callable[[Any], Any]) -> str:
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        return str(describe(importlib.import_module(module)))
    except BROKEN as error:
        return f"broken ({type(error).__name__}: {error})"
