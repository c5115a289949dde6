"""`paragon benchmark data`: how many training pairs a second come out of a folder."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from paragon_archs.cli.common import EXIT_DONE, CommandError, guarded, parser
from paragon_archs.utils.registry import load_host


def main(argv: Sequence[str] | None = None) -> int:
    """Prints pairs per second of `HRImageDataset` beside BasicSR's reading of PNGs."""
    arguments = parser(
        "benchmark data",
        "Times random training pairs made on the fly from decoded images against "
        "BasicSR's PairedImageDataset on PNG pairs of the same images, in turn.",
        "paragon benchmark data datasets/DIV2K/train_HR --scale 4",
        "paragon benchmark data datasets/DIV2K/train_HR --scale 2 --size 128",
    )
    arguments.add_argument("images", help="folder of high-resolution images")
    arguments.add_argument("--scale", type=int, default=4, help="(%(default)s)")
    arguments.add_argument(
        "--size", type=int, default=192, help="HR crop (%(default)s)"
    )
    arguments.add_argument("--batch", type=int, default=16, help="(%(default)s)")
    arguments.add_argument(
        "--workers", type=int, default=2, help="BasicSR's processes (%(default)s)"
    )
    arguments.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    if not load_host():
        raise CommandError(
            "Expected BasicSR to be installed, to measure beside it, but it is not. "
            "Install it: pip install 'paragon-archs[train]'."
        )
    from .data_speed import measure_data

    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        speed = measure_data(
            Path(options.images),
            Path(folder),
            options.scale,
            options.size,
            options.batch,
            options.workers,
            options.rounds,
        )
    print(
        f"{speed.images} images, x{options.scale}, HR crops of {options.size}, batch "
        f"{options.batch}, {torch.get_num_threads()} CPU threads, median of "
        f"{options.rounds}"
    )
    print("| training pairs | per second | times as many |")
    print("| --- | --- | --- |")
    print(f"| BasicSR, {options.workers} workers, PNG | {speed.host:.0f} | 1.0 |")
    print(f"| ours: HRImageDataset | {speed.ours:.0f} | {speed.ratio:.1f} |")
    return EXIT_DONE
