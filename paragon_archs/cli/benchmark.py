"""`paragon benchmark TOPIC ...`, and `scripts/benchmark.py`: figures, measured here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .dispatch import Command, dispatch

_MODELS = "your models"
_PACK = "the pack itself (from a checkout of the repository)"

TOPICS: dict[str, Command] = {
    "quality": Command(
        "paragon_archs.cli.benchmark_quality", "PSNR, SSIM and more", _MODELS
    ),
    "video": Command(
        "paragon_archs.cli.benchmark_video", "flicker, with and without memory", _MODELS
    ),
    "speed": Command(
        "benchmarks.command_speed", "published, fused, deploy form, graphs", _PACK
    ),
    "training": Command("benchmarks.command_training", "seconds of a step", _PACK),
    "upscale": Command(
        "benchmarks.command_upscale", "a folder; exactness of strips", _PACK
    ),
    "host": Command(
        "benchmarks.host_path", "what a video's frame costs beside the network", _PACK
    ),
    "data": Command("benchmarks.command_data", "training pairs a second", _PACK),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one benchmark and returns its exit code."""
    foot = "`paragon benchmark TOPIC --help` explains one."
    return dispatch("paragon benchmark", TOPICS, argv, "topic", foot, load)


def load(module: str) -> ModuleType:
    """Imports a module of the pack, or `benchmarks.NAME` out of a checkout's scripts.

    Raises:
        FileNotFoundError: when the pack was not installed from a checkout.
    """
    if module.startswith("benchmarks."):
        scripts = Path(__file__).resolve().parents[2] / "scripts"
        if not (scripts / "benchmarks" / "__init__.py").is_file():
            raise FileNotFoundError(
                "Expected the pack to run from a checkout of its repository, which "
                "holds the benchmarks of the pack itself, but got an installed copy "
                f"in {str(scripts.parent)!r}. Run `pip install -e .` in a checkout; "
                "`paragon benchmark quality` and `video` need none."
            )
        if str(scripts) not in sys.path:
            sys.path.insert(0, str(scripts))
    return importlib.import_module(module)
