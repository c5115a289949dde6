"""`scripts/benchmark_release.py`: speed and memory of a model over a folder."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paragon_archs.checkpoint import load_model
from paragon_archs.cli.common import EXIT_DONE, check_claims, guarded, parser
from paragon_archs.deploy import deploy_model
from paragon_archs.inference.backends import load_graph
from paragon_archs.inference.devices import pick_device
from paragon_archs.media.paths import find_images
from paragon_archs.utils.optional import need
from paragon_archs.weights import resolve

from .published import PublishedForm
from .speed import peak_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Prints seconds, output megapixels per second and peak memory, as Markdown."""
    arguments = parser(
        "",
        "Times a checkpoint over a folder of pictures, in its published and in its "
        "deploy form. What the checkpoint records need not be repeated.",
        "python scripts/benchmark_release.py --input photos --scale 2 --pt_model "
        "model.safetensors --arch paragonsr2_photo",
        "python scripts/benchmark_release.py --input photos "
        "--pt_model model.safetensors",
        program="benchmark_release.py",
    )
    arguments.add_argument("--input", required=True, help="folder of pictures")
    arguments.add_argument("--pt_model", required=True, help="checkpoint")
    arguments.add_argument("--scale", type=int, help="checked against the checkpoint")
    arguments.add_argument("--arch", help="checked against the checkpoint")
    arguments.add_argument("--trt_engine", help="TensorRT engine to time as well")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    options = arguments.parse_args(argv)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    device = pick_device(options.device)
    descriptor = load_model(resolve(options.pt_model), device)
    check_claims(descriptor, options.pt_model, options.arch, options.scale)
    files = find_images(options.input)
    image = need("PIL.Image", "reading pictures", "pillow")
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "published": PublishedForm(descriptor.model),
        "deploy": deploy_model(descriptor),
    }
    before = _free_memory(device)
    if options.trt_engine:
        engine = load_graph(Path(options.trt_engine), device)
        if engine.scale != descriptor.scale:
            raise ValueError(
                f"Expected --trt_engine to upscale by {descriptor.scale}, as "
                f"{options.pt_model!r} does, but {options.trt_engine!r} upscales by "
                f"{engine.scale}. Name the engine of this checkpoint."
            )
        forms["engine"] = engine
    print("| form | pictures | seconds each (median) | output MP/s | peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    for name, form in forms.items():
        seconds, pixels, peak = [], 0, 0
        for file in files:
            with image.open(file) as opened:
                array = np.asarray(opened.convert("RGB"), dtype=np.float32) / 255
            x = torch.from_numpy(array).permute(2, 0, 1)[None].to(device)
            with torch.inference_mode():
                if name == "engine":  # TensorRT's memory is none of torch's
                    torch.cuda.empty_cache()
                    form(x)
                    peak = max(peak, before - _free_memory(device))
                else:
                    peak = max(peak, peak_memory(form, x) or 0)
                start = time.perf_counter()
                y = form(x)
                if y.is_cuda:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            pixels += y.shape[2] * y.shape[3]
        print(
            f"| {name} | {len(files)} | {statistics.median(seconds):.3f} | "
            f"{pixels / sum(seconds) / 1e6:.2f} | {peak / 2**20:.0f} |",
            flush=True,
        )
    if options.trt_engine:
        print("\nAn engine's memory is with its weights, the other rows' without.")
    return EXIT_DONE


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
