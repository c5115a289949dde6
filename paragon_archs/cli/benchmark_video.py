"""`paragon benchmark video`: flicker of a static scene with noise, in both modes."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from ..utils.allocator import keep_freed_memory
from .common import EXIT_DONE, Parser, add_json, execute, parser, print_json
from .startup import load_spandrel


def main(argv: Sequence[str] | None = None) -> int:
    """Prints flicker and PSNR with and without the temporal mode."""
    keep_freed_memory()
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "benchmark video",
        "Upscales a still scene with fresh noise on every frame, each frame by itself "
        "and with the features of the frame before.",
        "paragon benchmark video kodim05.png --model paragonsr2_realtime_x2",
        "paragon benchmark video kodim05.png --alpha 0.3 --json",
    )
    arguments.add_argument("image", help="high-resolution scene")
    arguments.add_argument("--model", help="ParagonSR2 weights or a shipped model")
    arguments.add_argument("--alpha", type=float, default=0.2, help="(%(default)s)")
    arguments.add_argument("--frames", type=int, default=16, help="(%(default)s)")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    add_json(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    from ..evaluation.flicker import measure_flicker
    from ..inference import Upscaler, read_picture
    from ..media.images import to_depth
    from ..weights import default, resolve

    pixels = to_depth(read_picture(options.image).pixels, 8)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, 2)
    upscaler = Upscaler(resolve(options.model or default(2)), options.device)
    rows = measure_flicker(upscaler, pixels, alpha=options.alpha, frames=options.frames)
    if options.json:
        print_json([{**dataclasses.asdict(r), "lowered": r.lowered} for r in rows])
        return EXIT_DONE
    print(f"| sigma | flicker alone | at alpha {options.alpha} | lowered by | PSNR |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.sigma:g} | {row.single:.2f} | {row.temporal:.2f} | "
            f"{row.lowered:.0%} | {row.single_psnr:.2f} -> {row.temporal_psnr:.2f} dB |"
        )
    return EXIT_DONE
