"""`paragon upscale INPUT... -o OUT [--model FILE]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..weights import DEFAULTS, available, default, resolve
from .common import EXIT_DONE, EXIT_FAILED, guarded, parser, set_up_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Upscales images and folders of images."""
    arguments = parser(
        "upscale",
        "Upscales images; INPUT is a file or a folder.",
        "paragon upscale photos -o photos_x4 --model 4xParagonSR_S.safetensors",
    )
    arguments.add_argument("input", nargs="+", help="image or folder")
    arguments.add_argument(
        "-o", "--output", required=True, help="file (one image) or folder"
    )
    arguments.add_argument(
        "--model",
        help=f"weight file, or a shipped model: {', '.join(available())} "
        f"(default: {', '.join(f'{m} for x{s}' for s, m in DEFAULTS.items())})",
    )
    arguments.add_argument(
        "--scale", type=int, help="scale of the default model, without --model (4)"
    )
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    arguments.add_argument(
        "--dtype", default="auto", help="auto, fp32, fp16 or bf16 (auto)"
    )
    arguments.add_argument(
        "--memory", default="auto", help="most memory to take, like 4G (auto: free)"
    )
    arguments.add_argument(
        "--tta", action="store_true", help="average over the eight flips and turns"
    )
    arguments.add_argument(
        "--format", default="png", help="png, jpg, webp, tiff, avif, or keep (png)"
    )
    arguments.add_argument("--quality", type=int, default=95, help="1 to 100 (95)")
    arguments.add_argument("--lossless", action="store_true", help="WebP and AVIF")
    arguments.add_argument("--depth", type=int, choices=(8, 16), help="bits a value")
    arguments.add_argument("--suffix", default="", help="added to names in a folder")
    arguments.add_argument("--overwrite", action="store_true", help="replace outputs")
    arguments.add_argument("--verbose", action="store_true", help="say what is done")
    options = arguments.parse_args(argv)
    set_up_logging(options.verbose)
    return guarded(lambda: _upscale(options))


def _upscale(options: argparse.Namespace) -> int:
    from ..inference import (  # noqa: PLC0415 (keeps `--help` fast)
        Upscaler,
        WriteOptions,
    )
    from ..inference.jobs import plan, run  # noqa: PLC0415

    if options.model is not None and options.scale is not None:
        raise ValueError(
            f"Expected --scale without --model only, but got {options.model!r} and "
            f"{options.scale}. A model tells its scale: leave --scale out."
        )
    model = options.model
    if model is None:
        model = default(4 if options.scale is None else options.scale)
        print(f"model: {model} (shipped; --model takes another)")
    write = WriteOptions(options.quality, options.lossless, options.depth)
    jobs = plan(
        options.input,
        options.output,
        format_=options.format,
        suffix=options.suffix,
        overwrite=options.overwrite,
    )
    upscaler = Upscaler(
        resolve(model),
        device=options.device,
        dtype=options.dtype,
        memory=options.memory,
        tta=options.tta,
    )
    failed = run(upscaler, jobs, write)
    if len(jobs) == 1 and not failed:
        print(f"wrote {jobs[0].output}")
    elif not failed:
        print(f"wrote {len(jobs)} images to {Path(options.output)}")
    for job, reason in failed:
        print(f"error: {job.source}: {reason}", file=sys.stderr)
    if failed:
        print(
            f"error: {len(failed)} of {len(jobs)} inputs failed, the others are done",
            file=sys.stderr,
        )
    return EXIT_FAILED if failed else EXIT_DONE
