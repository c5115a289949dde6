"""`paragon benchmark upscale`: speed over a folder, and exactness of strips."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from .common import EXIT_DONE, guarded, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the speed beside a plain loop, or the exactness table."""
    arguments = parser(
        "benchmark upscale",
        "Times `paragon upscale` over a folder beside a plain loop of OpenCV and the "
        "published form; with --exact, compares strips with the whole image instead.",
        "paragon benchmark upscale Kodak24 --model paragonsr2_realtime_x2",
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
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    from ..evaluation.upscaling import (  # noqa: PLC0415 (keeps `--help` fast)
        measure_exactness,
        measure_folder,
    )

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.exact:
        logging.getLogger("paragon_archs.inference").setLevel(logging.ERROR)
        print("| network | sweeps | narrowest strip | worst | median |")
        print("| --- | --- | --- | --- | --- |")
        for row in measure_exactness():
            print(
                f"| {row.variant} | {row.sweeps} | {row.rows} rows | {row.worst:.1e} | "
                f"{row.median:.1e} |"
            )
        return EXIT_DONE
    if not options.folder:
        raise ValueError(
            "Expected a folder of PNG images, but got none. Name one, or pass --exact."
        )
    from ..weights import default, resolve  # noqa: PLC0415

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
