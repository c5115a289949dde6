"""`paragon benchmark speed`: forms of networks on the same input, in one run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from paragon_archs.archs import variants
from paragon_archs.cli.common import (
    EXIT_DONE,
    CommandError,
    add_json,
    guarded,
    image_size,
    parser,
    print_json,
)
from paragon_archs.inference.measured import learn, network_name
from paragon_archs.utils.allocator import keep_freed_memory
from paragon_archs.utils.dtypes import DTYPES, dtype_of
from paragon_archs.utils.files import atomic_write

from . import forms, peers, runtimes, speed

Row = dict[str, object]

LEARNED = ["deploy", "onnx", "openvino"]

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

COMPARED = (
    ("paragonsr2_realtime_x2", 2, 192),
    ("paragonsr2_realtime_x4", 4, 128),
    ("paragonsr2_stream_x2", 2, 128),
    ("paragonsr2_stream_x4", 4, 128),
    ("paragonsr_nano_x4", 4, 96),
    ("paragonsr_tiny", 4, 96),
    ("paragonsr_s", 4, 96),
    ("paragonsr2_photo", 4, 96),
    ("paragonsr2_pro", 4, 64),
    ("fusionsr", 4, 64),
    ("resshuffle", 4, 64),
    ("facesr", 4, 64),
)
"""What `--runtimes` compares by default; networks without shipped weights have random
ones."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a Markdown table: milliseconds, megapixels per second, times as fast."""
    arguments = parser(
        "benchmark speed",
        "Times forms of networks on the same input, taking turns. `published` is a "
        "frozen plain implementation; `deploy` is what `paragon upscale` runs.",
        "paragon benchmark speed paragonsr_nano span --size 96x96 --threads 1",
        "paragon benchmark speed net_g.safetensors --size 180x320",
        "paragon benchmark speed --runtimes --keep-memory --threads 1 2",
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
        choices=forms.FORMS,
        help="(published fused deploy)",
    )
    arguments.add_argument("--dtype", choices=DTYPES, default="fp32", help="(fp32)")
    arguments.add_argument("--device", default="cpu", help="(%(default)s)")
    arguments.add_argument(
        "--threads",
        nargs="+",
        type=int,
        default=[torch.get_num_threads()],
        help="CPU threads; several numbers with --runtimes (torch's default)",
    )
    arguments.add_argument("--warmup", type=int, default=2, help="(%(default)s)")
    arguments.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    arguments.add_argument(
        "--keep-memory",
        action="store_true",
        help="let the C library keep freed memory, as `paragon upscale` does; without "
        "it the system's page faults count, of which the published form has more",
    )
    arguments.add_argument(
        "--runtimes",
        action="store_true",
        help="compare torch, torch.compile, onnxruntime, OpenVINO and ncnn, in float32 "
        "and in the half precision that each has",
    )
    arguments.add_argument(
        "--learn",
        action="store_true",
        help="compare torch with the other runtimes on the CPU, and keep for `paragon "
        "upscale --backend auto` how fast each is here",
    )
    arguments.add_argument(
        "--picture", help="parameters against speed, or the runtimes, .svg"
    )
    add_json(arguments)
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
    if options.forms is None:
        compared = [*forms.RUNTIMES, *forms.HALVES]
        usual = ["published", "fused", "deploy"]
        options.forms = compared if options.runtimes else usual
    if options.runtimes and "deploy" not in options.forms:
        raise ValueError(
            f"Expected deploy among --forms for --runtimes, but got {options.forms}. "
            "Add it."
        )
    if options.learn:  # as `paragon upscale` runs it
        options.forms, options.device, options.dtype = LEARNED, "cpu", "fp32"
        keep_freed_memory()
    if options.keep_memory and not keep_freed_memory():
        raise CommandError(
            "Expected the C library to be glibc for --keep-memory, but it is not. "
            "Leave the flag out."
        )
    if options.rounds < 1:
        raise ValueError(
            f"Expected --rounds to be at least 1, but got {options.rounds}. Use 9."
        )
    if len(options.threads) > 1 and not options.runtimes:
        raise ValueError(
            f"Expected one number of --threads without --runtimes, but got "
            f"{options.threads}. Name one."
        )
    torch.set_num_threads(options.threads[0])
    example = torch.empty(
        0, dtype=dtype_of(options.dtype), device=torch.device(options.device)
    )
    compared = _compare_runtimes if options.runtimes else _compare_forms
    # For programs stdout has JSON alone; what people read goes to stderr.
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        _print_head(options, example)
        found = compared(options, example)
    if options.json:
        print_json(found)
    return EXIT_DONE


def _rows(options: argparse.Namespace) -> list[tuple[str, int, int, int]]:
    """Returns networks, scales, heights and widths."""
    if options.all:
        return [
            (n, s, side, side)
            for n in variants()
            for s in (2, 4)
            for side in [speed.side_for(peers.build(n, s))]
        ]
    usual = COMPARED if options.runtimes else REFERENCE
    rows = [(n, options.scale, *options.size) for n in options.networks]
    return rows or [(n, s, side, side) for n, s, side in usual]


def _print_head(options: argparse.Namespace, example: torch.Tensor) -> None:
    rate = speed.matrix_rate(example)
    memory = "freed memory kept" if options.keep_memory else "the system's malloc"
    print(
        f"torch {torch.__version__}, {example.device.type}, {options.dtype}, "
        f"{options.threads[0]} CPU threads, {memory}; median of {options.rounds} "
        "± half the distance of the quartiles; matrix products: "
        f"{rate / 1e9:.0f} G multiply-adds a second\n"
    )


def _shown(name: str, scale: int, height: int, width: int) -> str:
    """Returns what a row is called; shipped models have their scale in their names."""
    stem = Path(name).stem.removesuffix(f"_x{scale}")
    return f"{stem} x{scale}, {height}x{width}"


def _timed(name: str, scale: int, threads: int, timings: Sequence[speed.Timing]) -> Row:
    """Returns a row of `--json`."""
    forms_ = [dataclasses.asdict(timing) for timing in timings]
    return {"network": name, "scale": scale, "threads": threads, "forms": forms_}


def _compare_forms(options: argparse.Namespace, example: torch.Tensor) -> list[Row]:
    """Prints a table; returns what `--json` prints."""
    print("\n".join(speed.HEADER), flush=True)
    points, rows = [], []
    for name, scale, height, width in _rows(options):
        model = peers.build(name, scale)
        x = torch.rand(1, 3, height, width).to(example)
        timings = speed.measure(model, x, options.forms, options.warmup, options.rounds)
        shown = _shown(name, scale, height, width)
        print("\n".join(speed.table(shown, model, timings)), flush=True)
        parameters = sum(p.numel() for p in model.parameters())
        row = _timed(name, scale, options.threads[0], timings)
        rows.append(row | {"size": [height, width], "parameters": parameters})
        best = max(t.megapixels for t in timings)
        points.append((shown.split(",")[0], parameters, best))
        if options.learn and (known := network_name(model)):
            file = learn(known, runtimes.found(timings, x))
            print(f"kept for {known} in {file}", flush=True)
    if options.picture:
        speed.draw(points, options.picture)
        print(f"\nwrote {options.picture}")
    return rows


def _compare_runtimes(options: argparse.Namespace, example: torch.Tensor) -> list[Row]:
    """Prints the tables of `docs/benchmarks.md` about other runtimes.

    Returns what `--json` prints.
    """
    rows: list[Row] = []
    compared: list[runtimes.Row] = []
    for name, scale, height, width in _rows(options):
        model = peers.build(name, scale)
        x = torch.rand(1, 3, height, width).to(example)
        with tempfile.TemporaryDirectory() as graphs:
            for threads in options.threads:
                torch.set_num_threads(threads)
                timings = speed.measure(
                    model,
                    x,
                    options.forms,
                    options.warmup,
                    options.rounds,
                    Path(graphs),
                    runtimes.share_of(threads),
                )
                shown = _shown(name, scale, height, width)
                row = _timed(name, scale, threads, timings)
                rows.append(row | {"size": [height, width]})
                line = runtimes.Row(
                    shown, network_name(model), threads, {t.form: t for t in timings}
                )
                compared.append(line)
                print("\n".join(runtimes.lines(line)), flush=True)
    for group in (forms.RUNTIMES, forms.HALVES):
        if columns := [form for form in group if form in options.forms]:
            print("\n" + "\n".join(runtimes.table(compared, columns)))
    if options.picture:
        with atomic_write(options.picture) as temporary:
            temporary.write_text(runtimes.draw(compared))
        print(f"\nwrote {options.picture}")
    return rows
