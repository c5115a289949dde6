"""`scripts/run_inference.py`: upscaling under its published flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..utils.allocator import keep_freed_memory
from ..utils.files import make_folder
from . import upscale
from .common import Parser, check_claims, guarded, parser, set_up_logging
from .startup import load_spandrel


def main(argv: Sequence[str] | None = None) -> int:
    """Upscales an image, a folder or a video into a folder."""
    options = flags().parse_args(argv)
    keep_freed_memory()
    set_up_logging()
    return guarded(lambda: run(options))


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "",
        "Upscales under published flags; `paragon upscale` has more.",
        "python scripts/run_inference.py --input input.png --model model.safetensors",
        "python scripts/run_inference.py --input film.mkv --model model.safetensors "
        "--output upscaled",
        program="run_inference.py",
    )
    arguments.add_argument("--input", required=True, help="image, video or folder")
    arguments.add_argument("--model", required=True, help="weights, .onnx or .trt")
    arguments.add_argument("--output", default="output", help="folder (output)")
    arguments.add_argument("--arch", help="checked against the weights")
    arguments.add_argument("--scale", type=int, help="checked against the model")
    arguments.add_argument("--fp32", action="store_true", help="no half precision")
    arguments.add_argument(
        "--upsampler_alpha", type=float, help="replaces what the weights record"
    )
    arguments.add_argument(
        "--export_safe", action="store_true", help="without window attention"
    )
    arguments.add_argument(
        "--disable_compile", action="store_true", help="no torch.compile (on cuda)"
    )
    arguments.add_argument(
        "--no_temporal", action="store_true", help="every frame by itself"
    )
    arguments.add_argument("--suffix", default="", help="added to names")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    arguments.add_argument("--overwrite", action="store_true", help="replace outputs")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    from ..inference.backends import GRAPH_SUFFIXES, load_graph
    from ..inference.devices import pick_device
    from ..weights import resolve

    device = pick_device(options.device)
    output = Path(options.output)
    make_folder(output)
    file = resolve(options.model)
    overrides = {}
    if options.upsampler_alpha is not None:
        overrides["upsampler_alpha"] = options.upsampler_alpha
    if options.export_safe:
        overrides["export_safe"] = True
    asked = upscale.flags().parse_args([options.input, "-o", str(output)])
    if file.suffix.lower() in GRAPH_SUFFIXES:
        if overrides:
            raise ValueError(
                f"Expected {' and '.join(overrides)} for weights only, but got "
                f"{options.model!r}, a graph, which has them built in. Export it again."
            )
        asked.loaded = load_graph(file, device)
        if options.scale not in (None, asked.loaded.scale):
            raise ValueError(
                f"Expected --scale to be {asked.loaded.scale}, as {options.model!r} "
                f"gives, but got {options.scale}. Leave the flag out."
            )
    else:
        from ..checkpoint import load_model

        asked.loaded = load_model(file, device, overrides)
        check_claims(asked.loaded, options.model, options.arch, options.scale)
    asked.device, asked.overwrite = str(device), options.overwrite
    asked.dtype = "fp32" if options.fp32 else "auto"
    asked.compile = device.type == "cuda" and not options.disable_compile
    asked.no_temporal, asked.suffix = options.no_temporal, options.suffix
    return upscale.upscale(asked)
