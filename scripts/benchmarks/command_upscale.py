"""`paragon benchmark upscale`: speed over a folder; exactness and cost of strips."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from paragon_archs.archs import variants
from paragon_archs.cli.common import EXIT_DONE, guarded, parser

# What --bounded times: networks of one sweep and of many.
_BOUNDED = (
    "paragonsr2_realtime",
    "paragonsr2_stream",
    "paragonsr_nano",
    "paragonsr2_photo",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the speed beside a plain loop, the exactness table, or what it costs."""
    arguments = parser(
        "benchmark upscale",
        "Times `paragon upscale` over a folder beside a plain loop of OpenCV and the "
        "published form; with --exact, compares strips with the whole image instead; "
        "with --bounded, prints peak memory and time of a 3840x2160 picture at x2, and "
        "how long strips take beside the whole image.",
        "paragon benchmark upscale Kodak24 --model paragonsr2_realtime_x2",
        "paragon benchmark upscale --exact",
    )
    arguments.add_argument("folder", nargs="?", help="folder of PNG images")
    arguments.add_argument("--model", help="weights or a shipped model")
    arguments.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    arguments.add_argument(
        "--exact",
        action="store_true",
        help="strips against the whole image, any network",
    )
    arguments.add_argument(
        "--bounded", action="store_true", help="memory and time where memory is bounded"
    )
    arguments.add_argument(
        "--variants",
        nargs="+",
        choices=list(variants()),
        metavar="NAME",
        help="networks of --exact (all) and --bounded (four)",
    )
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    from .upscaling import (
        measure_exactness,
        measure_folder,
    )

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.exact:
        logging.getLogger("paragon_archs.inference").setLevel(logging.ERROR)
        print("| network | sweeps | narrowest strip | worst | median |")
        print("| --- | --- | --- | --- | --- |")
        for row in measure_exactness(options.variants):
            print(
                f"| {row.variant} | {row.sweeps} | {row.rows} rows | {row.worst:.1e} | "
                f"{row.median:.1e} |"
            )
        return EXIT_DONE
    if options.bounded:
        return _bounded(options)
    if not options.folder:
        raise ValueError(
            "Expected a folder of PNG images, but got none. Name one, or pass --exact "
            "or --bounded."
        )
    from paragon_archs.weights import default, resolve

    file = resolve(options.model or default(2))
    speed = measure_folder(file, Path(options.folder), options.rounds, options.threads)
    print(
        f"{speed.images} images, {speed.threads} CPU threads, median of "
        f"{options.rounds}"
    )
    print("| from the first read to the last write | seconds | times as fast |")
    print("| --- | --- | --- |")
    for name, seconds in (
        ("plain loop: cv2, published form", speed.plain),
        ("plain loop, keeping freed memory", speed.plain_kept),
        ("paragon upscale", speed.ours),
    ):
        print(f"| {name} | {seconds:.2f} | {speed.plain / seconds:.2f} |")
    print(f"not the network: {1 - speed.network:.0%} of paragon upscale's time")
    return EXIT_DONE


def _bounded(options: argparse.Namespace) -> int:
    from paragon_archs.weights import FOLDER, resolve

    from .bounded import measure_command, measure_strips

    width, height = 3840, 2160
    print(f"`paragon upscale`, one {width}x{height} PNG at x2, {os.cpu_count()} cores")
    print("| network | peak, MiB | seconds in all |")
    print("| --- | --- | --- |")
    for file in (
        resolve("paragonsr2_realtime_x2"),
        FOLDER / "quickstart" / "paragonsr_nano_x2.safetensors",
    ):
        cost = measure_command(file, (height, width))
        print(f"| {file.stem} | {cost.peak / 2**20:.0f} | {cost.seconds:.1f} |")
    size = (512, 768)
    print(f"\nstrips at half the whole image's memory, {size[1]}x{size[0]} at x2")
    print("| network | sweeps | whole, s | strips, s | strips / whole |")
    print("| --- | --- | --- | --- | --- |")
    names = options.variants or _BOUNDED
    for row in measure_strips(names, size, options.rounds, options.threads):
        print(
            f"| {row.variant} | {row.sweeps} | {row.whole:.3f} | {row.strips:.3f} | "
            f"{row.ratio:.2f} |"
        )
    return EXIT_DONE
