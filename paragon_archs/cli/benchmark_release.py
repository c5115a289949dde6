"""`scripts/benchmark_release.py`: speed and memory of a model over a folder."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..checkpoint import load_model
from ..deploy import deploy_model
from ..evaluation.published import PublishedForm
from ..evaluation.speed import peak_memory
from ..export.onnx import require
from .common import EXIT_DONE, check_claims, guarded
from .convert_onnx_release import PICTURES


def main(argv: Sequence[str] | None = None) -> int:
    """Prints seconds, output megapixels per second and peak memory, as Markdown."""
    arguments = argparse.ArgumentParser(
        prog="benchmark_release.py",
        description="Times a checkpoint over a folder of pictures, in its published "
        "and in its deploy form. What the checkpoint tells need not be repeated.",
        epilog="example: python scripts/benchmark_release.py --input photos --scale 2 "
        "--pt_model model.safetensors --arch paragonsr2_photo",
        allow_abbrev=False,
    )
    arguments.add_argument("--input", required=True, help="folder of pictures")
    arguments.add_argument("--pt_model", required=True, help="checkpoint")
    arguments.add_argument("--scale", type=int, help="checked against the checkpoint")
    arguments.add_argument("--arch", help="checked against the checkpoint")
    arguments.add_argument("--trt_engine", help="TensorRT engine to time as well")
    arguments.add_argument("--device", help="cuda where there is one, else cpu")
    options = arguments.parse_args(argv)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_claims(options.pt_model, options.arch, options.scale)
    if options.trt_engine:
        raise ValueError(
            "Expected no --trt_engine here: engines are timed by TensorRT's own "
            f"`trtexec --loadEngine={options.trt_engine}`. Leave the flag out."
        )
    folder = Path(options.input)
    files = sorted(f for f in folder.glob("*") if f.suffix.lower() in PICTURES)
    if not files:
        raise ValueError(
            f"Expected --input to be a folder of pictures, but got {options.input!r}, "
            f"which holds none. Known are {', '.join(PICTURES)}."
        )
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    descriptor = load_model(options.pt_model, device)
    (image,) = require("PIL.Image")
    forms = {
        "published": PublishedForm(descriptor.model),
        "deploy": deploy_model(descriptor),
    }
    print("| form | pictures | seconds each (median) | output MP/s | peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    for name, form in forms.items():
        seconds, pixels, peak = [], 0, 0
        for file in files:
            with image.open(file) as opened:
                array = np.asarray(opened.convert("RGB"), dtype=np.float32) / 255
            x = torch.from_numpy(array).permute(2, 0, 1)[None].to(device)
            with torch.inference_mode():
                if not seconds:
                    form(x)
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
    return EXIT_DONE
