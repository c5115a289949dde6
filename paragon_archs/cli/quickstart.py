"""`paragon quickstart images|report`: the steps of scripts/quickstart.sh."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .common import EXIT_DONE, CommandError, Parser, execute, parser

GAIN = 0.4  # dB over bicubic that the quickstart promises on every photograph


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the quickstart's photographs, or reports what a model makes of them."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "quickstart",
        "The quickstart's photographs (out of scikit-image) and its report.",
        "paragon quickstart images -o quickstart/data --scale 2",
        "paragon quickstart report --model fused.safetensors --data quickstart/data "
        "--upscaled chelsea.png -o report.png",
    )
    steps = arguments.add_subparsers(dest="step", required=True, metavar="STEP")
    images = steps.add_parser("images", help="write the photographs as a data set")
    images.add_argument("-o", "--output", required=True, help="folder to write into")
    images.add_argument("--scale", type=int, default=2, help="(%(default)s)")
    report = steps.add_parser("report", help="compare a model with bicubic")
    report.add_argument("--model", required=True, help="weight file")
    report.add_argument("--data", required=True, help="folder that `images` wrote")
    report.add_argument("--upscaled", required=True, help="output of `paragon upscale`")
    report.add_argument("-o", "--output", required=True, help="picture to write (PNG)")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    return (_images if options.step == "images" else _report)(options)


def _images(options: argparse.Namespace) -> int:
    from ..evaluation.quickstart import write_images

    written = write_images(options.output, options.scale)
    print(f"wrote {len(written)} images into {options.output}")
    return EXIT_DONE


def _report(options: argparse.Namespace) -> int:
    from ..evaluation import quickstart

    rows = quickstart.evaluate(options.model, options.data)
    print("| photograph | bicubic, dB | ours, dB | gain, dB | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.name} | {row.bicubic:.2f} | {row.network:.2f} | "
            f"{row.network - row.bicubic:+.2f} | {row.seconds:.2f} |"
        )
    name = Path(options.upscaled).name
    validation = Path(options.data) / "val"
    picture = quickstart.side_by_side(
        validation / "lr" / name, options.upscaled, validation / "hr" / name
    )
    quickstart.save(picture, Path(options.output))
    print(f"wrote {options.output}: input, bicubic, ours, original")
    poor = [row.name for row in rows if row.network - row.bicubic < GAIN]
    if poor:
        raise CommandError(
            f"Expected at least {GAIN} dB over bicubic on every photograph, but "
            f"{', '.join(poor)} fell short. Train longer."
        )
    return EXIT_DONE
