"""Upscalers of models/Paragon for Stable Diffusion WebUI (A1111) and Forge.

Copied by `paragon integrate forge PATH` into extensions/paragon_archs/scripts, with the
pack beside that folder. The stock ESRGAN upscaler then opens our files too, in tiles
and with red and blue exchanged, as it hands over every picture; the upscalers of this
file give the whole image's result.
"""

# pyright: reportMissingImports=false
# What it imports is there where it was copied to.

from __future__ import annotations

import functools
import gc
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import devices, modelloader, shared
from modules.upscaler import Upscaler, UpscalerData
from PIL import Image

if not hasattr(torch.compiler, "is_compiling"):  # A1111 has torch 2.1
    torch.compiler.is_compiling = lambda: False

from paragon_archs.checkpoint import load_model
from paragon_archs.inference import upscaler as engine
from paragon_archs.loaders import install
from paragon_archs.utils.progress import Task, shown_by, task

install()


class StoppedError(Exception):
    """The user pressed Interrupt."""


class Interrupt:
    """Ends the work between strips where the user asked for it."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()

    def update(self, whole: Task) -> None:
        """Raises `StoppedError`, in the thread that catches it."""
        if shared.state.interrupted and threading.current_thread() is self.thread:
            raise StoppedError

    def close(self, whole: Task) -> None:
        """Leaves all as it is."""


@functools.lru_cache(maxsize=1)
def opened(path: str, _written: int, device: Any) -> engine.Upscaler:
    """Returns an upscaler, read once."""
    opened.cache_clear()  # the one before goes first, circles of references and all
    gc.collect()
    return engine.Upscaler(load_model(path, "cpu"), device=device)


class UpscalerParagon(Upscaler):
    """One upscaler a file of models/Paragon.

    Args:
        dirname: Another folder, which the command line may name.
    """

    def __init__(self, dirname: str | None = None) -> None:
        self.name = "Paragon"
        self.user_path = dirname
        super().__init__()
        files = self.find_models(ext_filter=[".safetensors", ".pth"])
        self.scalers = [
            UpscalerData(modelloader.friendly_name(file), file, self)
            for file in sorted(files)
        ]

    def do_upscale(self, img: Image.Image, selected_model: str) -> Image.Image:
        """Upscales by the model's scale; returns the image itself where that fails."""
        device = devices.get_device_for("esrgan")
        try:
            written = Path(selected_model).stat().st_mtime_ns
            upscaler = opened(selected_model, written, device)
            with shown_by(Interrupt()), task("upscale", 1, "image"):
                pixels = upscaler.image(np.asarray(img.convert("RGB")))
        except StoppedError:
            return img
        except (OSError, ValueError, RuntimeError) as error:
            print(f"Paragon: {selected_model}: {error}", file=sys.stderr)
            return img
        return Image.fromarray(pixels)
