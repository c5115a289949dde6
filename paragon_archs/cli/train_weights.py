"""`scripts/train_weights.py`: makes the shipped weights from folders of images."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..evaluation.plots import Series, chart
from ..utils.allocator import keep_freed_memory
from ..utils.files import atomic_write
from ..weights.recipes import RECIPES
from .common import EXIT_DONE, guarded, parser, set_up_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Trains models by their recipes; continues runs that their folders hold."""
    arguments = parser(
        "",
        "Trains the shipped weights by their recipes, from folders of images. A run "
        "that was stopped (Ctrl-C, SIGTERM, power) continues where it was, bit by bit.",
        "train_weights.py paragonsr2_realtime_x2 --train BSDS400 SunHays80 --choose "
        "Kodak24 --output runs",
        program="train_weights.py",
    )
    arguments.add_argument("models", nargs="+", choices=tuple(RECIPES))
    arguments.add_argument(
        "--train", nargs="+", required=True, metavar="FOLDER", help="HR images"
    )
    arguments.add_argument(
        "--choose",
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="HR images that the checkpoint is chosen on; no test set",
    )
    arguments.add_argument(
        "-o", "--output", required=True, help="folder of the runs, one folder each"
    )
    arguments.add_argument(
        "--iterations", type=int, help="another length than the recipe's"
    )
    arguments.add_argument(
        "--every", type=int, default=1000, help="steps between measurements (1000)"
    )
    arguments.add_argument(
        "--choose-every", type=int, default=1, help="use every n-th image of --choose"
    )
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    arguments.add_argument(
        "--bfloat16",
        action="store_true",
        help="compute in bfloat16: faster for ParagonSR2 on some "
        "processors, slower on others that have its instructions too: try",
    )
    arguments.add_argument("--threads", type=int, help="torch's threads on the CPU")
    options = arguments.parse_args(argv)
    keep_freed_memory()
    return guarded(lambda: _train(options))


def _train(options: argparse.Namespace) -> int:
    from ..weights.training import Run

    for name in ("iterations", "every", "choose_every", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"Expected {flag} to be at least 1, but got {value}. Correct it."
            )
    set_up_logging(verbose=True)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for name in options.models:
        recipe = RECIPES[name]
        if options.iterations is not None:
            recipe = dataclasses.replace(recipe, iterations=options.iterations)
        run = Run(
            recipe,
            options.train,
            options.choose,
            Path(options.output) / name,
            options.device,
            options.choose_every,
            options.bfloat16,
        )
        best = run.train(options.every)
        points = [(row[0], row[-1]) for row in run.rows]
        if points:
            picture = chart(
                [Series("", points, line=True)],
                f"{name}: mean PSNR-Y on the choosing images",
                "steps",
                "dB",
            )
            with atomic_write(run.folder / "curve.svg") as temporary:
                temporary.write_text(picture)
        if run.step < recipe.iterations:
            print(f"stopped at step {run.step}; the same command continues")
            return EXIT_DONE
        print(f"{name}: {best:.3f} dB, {run.folder / (name + '.safetensors')}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
