"""`paragon benchmark training`: what a training step costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from paragon_archs.archs.paragonsr_arch import VARIANTS as PARAGONSR
from paragon_archs.cli.common import EXIT_DONE, guarded, parser

from .training_speed import measure_step


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a training step of ours beside the published computation of the same."""
    arguments = parser(
        "benchmark training",
        "Times a training step against the same network with three separate branch "
        "convolutions, torch's mish and a permuting LayerScale; compares gradients.",
        "paragon benchmark training --variant paragonsr_s --batch 4 --size 32",
        "paragon benchmark training --engine",
    )
    arguments.add_argument(
        "--variant",
        default="paragonsr_s",
        choices=list(PARAGONSR),
        help="(%(default)s)",
    )
    arguments.add_argument("--scale", type=int, default=4, help="(%(default)s)")
    arguments.add_argument("--batch", type=int, default=4, help="(%(default)s)")
    arguments.add_argument("--size", type=int, default=32, help="LR side (%(default)s)")
    arguments.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    arguments.add_argument(
        "--engine",
        action="store_true",
        help="measure ParagonModel beside BasicSR's SRModel instead: paragonsr2_"
        "realtime x2, batch 16, 48x48 LR, the same pairs",
    )
    options = arguments.parse_args(argv)
    return guarded(lambda: (_engine if options.engine else _measure)(options))


def _engine(options: argparse.Namespace) -> int:
    from .engine_speed import measure_engine

    if options.threads:
        torch.set_num_threads(options.threads)
    speed = measure_engine("paragonsr2_realtime", 2, 16, 48, options.rounds)
    print(
        f"paragonsr2_realtime x2, batch 16, 48x48 LR, {torch.get_num_threads()} CPU "
        f"threads, median of {options.rounds}"
    )
    print("| model class | iterations a second | times as fast |")
    print("| --- | --- | --- |")
    print(f"| BasicSR's SRModel | {speed.host:.2f} | 1.00 |")
    print(f"| ParagonModel | {speed.ours:.2f} | {speed.ratio:.2f} |")
    print(f"largest relative difference of a loss: {speed.loss_difference:.1e}")
    return EXIT_DONE


def _measure(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    speed = measure_step(
        options.variant, options.scale, options.batch, options.size, options.rounds
    )
    print(
        f"{options.variant} x{options.scale}, batch {options.batch}, "
        f"{options.size}x{options.size} LR, {torch.get_num_threads()} CPU threads, "
        f"median of {options.rounds}"
    )
    print("| training step | seconds | times as fast |")
    print("| --- | --- | --- |")
    for name, seconds in (
        (
            "published: three branches, torch's mish, permuted LayerScale",
            speed.published,
        ),
        ("ours: folded", speed.folded),
        ("ours: folded, channels-last", speed.folded_channels_last),
    ):
        print(f"| {name} | {seconds:.3f} | {speed.published / seconds:.2f} |")
    print(f"largest relative difference of a gradient: {speed.gradient_error:.1e}")
    return EXIT_DONE
