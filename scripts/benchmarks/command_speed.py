"""`paragon benchmark speed`: forms of networks on the same input, in one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from paragon_archs.archs import variants
from paragon_archs.cli.common import (
    EXIT_DONE,
    CommandError,
    guarded,
    image_size,
    parser,
)
from paragon_archs.inference import runtimes
from paragon_archs.utils.allocator import keep_freed_memory
from paragon_archs.utils.dtypes import DTYPES, dtype_of

from . import peers, speed

LEARNED = ["deploy", "openvino", "onnx"]

REFERENCE = (
    ("paragonsr2_realtime", 4, 128),
    ("paragonsr2_realtime", 2, 192),
    ("paragonsr2_stream", 4, 128),
    ("paragonsr_nano", 4, 96),
    ("paragonsr_tiny", 4, 96),
    ("paragonsr_s", 4, 96),
    ("paragonsr2_photo", 4, 96),
    ("paragonsr2_pro", 4, 64),
    ("fusionsr", 4, 64),
)
"""The rows of the README's table: network, scale, side of the input."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a Markdown table: milliseconds, megapixels per second, times as fast."""
    arguments = parser(
        "benchmark speed",
        "Times forms of networks on the same input, taking turns. `published` is a "
        "frozen plain implementation; `deploy` is what `paragon upscale` runs.",
        "paragon benchmark speed paragonsr_nano span --size 96x96 --threads 1",
        "paragon benchmark speed net_g.safetensors --size 180x320",
    )
    arguments.add_argument(
        "networks",
        nargs="*",
        help=f"variants, weight files, or {', '.join(peers.PEERS)}; none: the README's "
        "table",
    )
    arguments.add_argument(
        "--all",
        action="store_true",
        help="every variant at x2 and x4, each at a side of "
        f"{speed.SIDES[0]} to {speed.SIDES[-1]} that takes it a second or so",
    )
    arguments.add_argument("--scale", type=int, default=4, help="(%(default)s)")
    arguments.add_argument(
        "--size", type=image_size, default=(96, 96), metavar="HxW", help="input (96x96)"
    )
    arguments.add_argument(
        "--forms",
        nargs="+",
        choices=speed.FORMS,
        default=["published", "fused", "deploy"],
        help="(published fused deploy)",
    )
    arguments.add_argument("--dtype", choices=DTYPES, default="fp32", help="(fp32)")
    arguments.add_argument("--device", default="cpu", help="(%(default)s)")
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    arguments.add_argument("--warmup", type=int, default=2, help="(%(default)s)")
    arguments.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    arguments.add_argument(
        "--keep-memory",
        action="store_true",
        help="let the C library keep freed memory, as `paragon upscale` does; without "
        "it the system's page faults count, of which the published form has more",
    )
    arguments.add_argument(
        "--learn",
        action="store_true",
        help="compare torch with the other runtimes on the CPU, and keep for `paragon "
        "upscale --backend auto` which of them are faster here by a tenth",
    )
    arguments.add_argument("--picture", help="parameters against speed, .svg")
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    if options.all and options.networks:
        raise ValueError(
            "Expected --all to stand without networks, but got "
            f"{', '.join(options.networks)!r}. Leave one of the two out."
        )
    if options.picture:
        speed.check_picture(options.picture)
    if options.learn:  # as `paragon upscale` runs it
        options.forms, options.device, options.dtype = LEARNED, "cpu", "fp32"
        keep_freed_memory()
    if options.keep_memory and not keep_freed_memory():
        raise CommandError(
            "Expected the C library to be glibc for --keep-memory, but it is not. "
            "Leave the flag out."
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.rounds < 1:
        raise ValueError(
            f"Expected --rounds to be at least 1, but got {options.rounds}. Use 9."
        )
    device = torch.device(options.device)
    rows = [(n, options.scale, *options.size) for n in options.networks]
    if options.all:
        rows = [
            (n, s, side, side)
            for n in variants()
            for s in (2, 4)
            for side in [speed.side_for(peers.build(n, s))]
        ]
    rows = rows or [(n, s, side, side) for n, s, side in REFERENCE]
    example = torch.empty(0, dtype=dtype_of(options.dtype), device=device)
    rate = speed.matrix_rate(example)
    memory = "freed memory kept" if options.keep_memory else "the system's malloc"
    print(
        f"torch {torch.__version__}, {device.type}, {options.dtype}, "
        f"{torch.get_num_threads()} CPU threads, {memory}; median of {options.rounds} "
        "± half the distance of the quartiles; matrix products: "
        f"{rate / 1e9:.0f} G multiply-adds a second\n"
    )
    print("\n".join(speed.HEADER), flush=True)
    points = []
    for name, scale, height, width in rows:
        model = peers.build(name, scale)
        x = torch.rand(1, 3, height, width).to(example)
        timings = speed.measure(model, x, options.forms, options.warmup, options.rounds)
        shown = f"{Path(name).stem} x{scale}, {height}x{width}"
        print("\n".join(speed.table(shown, model, timings)), flush=True)
        parameters = sum(p.numel() for p in model.parameters())
        best = max(t.megapixels for t in timings)
        points.append((f"{Path(name).stem} x{scale}", parameters, best))
        if options.learn and (variant := runtimes.variant_of(model)):
            file = runtimes.learn({variant: speed.faster_backends(timings)})
            print(f"kept for {variant} in {file}", flush=True)
    if options.picture:
        speed.draw(points, options.picture)
        print(f"\nwrote {options.picture}")
    return EXIT_DONE
