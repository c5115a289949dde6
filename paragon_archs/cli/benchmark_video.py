"""`paragon benchmark video`: flicker of a static scene with noise, in both modes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .common import EXIT_DONE, guarded, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints flicker and PSNR with and without the temporal mode."""
    arguments = parser(
        "benchmark video",
        "Upscales a still scene with fresh noise on every frame, each frame by itself "
        "and with the features of the frame before.",
        "paragon benchmark video kodim05.png --model paragonsr2_realtime_x2",
    )
    arguments.add_argument("image", help="high-resolution scene")
    arguments.add_argument("--model", help="ParagonSR2 weights or a shipped model")
    arguments.add_argument("--alpha", type=float, default=0.2, help="(%(default)s)")
    arguments.add_argument("--frames", type=int, default=16, help="(%(default)s)")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    from ..evaluation.flicker import measure_flicker  # noqa: PLC0415 (fast `--help`)
    from ..inference import Upscaler, read_picture  # noqa: PLC0415
    from ..media.images import to_depth  # noqa: PLC0415
    from ..weights import default, resolve  # noqa: PLC0415

    pixels = to_depth(read_picture(options.image).pixels, 8)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, 2)
    upscaler = Upscaler(resolve(options.model or default(2)), options.device)
    rows = measure_flicker(upscaler, pixels, alpha=options.alpha, frames=options.frames)
    print(f"| sigma | flicker alone | at alpha {options.alpha} | lowered by | PSNR |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.sigma:g} | {row.single:.2f} | {row.temporal:.2f} | "
            f"{row.lowered:.0%} | {row.single_psnr:.2f} -> {row.temporal_psnr:.2f} dB |"
        )
    return EXIT_DONE
