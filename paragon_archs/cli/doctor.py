"""`paragon doctor`: what a bug report needs, in one paste."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .common import (
    EXIT_DONE,
    EXIT_FAILED,
    Parser,
    add_json,
    execute,
    new_output,
    parser,
    print_json,
    set_up_logging,
)

REPORT = "gpu.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints versions, devices, runtimes, hosts and their repairs."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "doctor",
        "Prints what a bug report needs: versions, devices, runtimes, which hosts are "
        "usable, and which repairs of BasicSR this machine needs. Paths and names of "
        "users are left out. With --gpu it compares this machine's GPU with its CPU "
        "and measures it instead, in under ten minutes.",
        "paragon doctor",
        "paragon doctor --json > doctor.json",
        "paragon doctor --gpu -o report",
    )
    add_json(arguments)
    gpu = arguments.add_argument_group("GPU")
    gpu.add_argument(
        "--gpu",
        action="store_true",
        help="print tables for an issue: parity of every network with the CPU, speed, "
        "memory; exit code 1 where parity is not held",
    )
    gpu.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:N, mps; cpu: small sizes"
    )
    gpu.add_argument(
        "-o", "--output", metavar="FOLDER", help=f"folder that {REPORT} goes to"
    )
    gpu.add_argument("--overwrite", action="store_true", help=f"replace {REPORT}")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    if options.gpu:
        return _examine(options)
    if options.output or options.device != "auto":
        raise ValueError(
            "Expected --device and --output with --gpu alone, but got one without it. "
            "Add --gpu."
        )
    from ..integrations.diagnosis import diagnose

    sections = diagnose()
    if options.json:
        print_json(sections)
        return EXIT_DONE
    for title, facts in sections.items():
        print(f"{title}:")
        width = max(map(len, facts), default=0)
        for name, fact in facts.items():
            print(f"  {name:<{width}}  {fact}")
    return EXIT_DONE


def _examine(options: argparse.Namespace) -> int:
    """Prints the tables of a GPU, and writes them into a folder."""
    from ..evaluation.gpu import report
    from ..inference.devices import pick_device
    from ..utils.files import atomic_write, make_folder

    if options.json:
        raise ValueError(
            "Expected one of --json and --gpu, whose report is Markdown, but got both. "
            "Leave one out."
        )
    device = pick_device(options.device)
    if device.type == "cpu" and options.device == "auto":
        raise ValueError(
            "Expected a GPU for --gpu, but torch sees none. --device cpu makes the "
            "same tables at small sizes."
        )
    file = None
    if options.output:
        folder = make_folder(options.output)
        file = new_output(folder / REPORT, options.overwrite)
    lines: list[str] = []

    def emit(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    set_up_logging()
    try:
        good = report(device, emit)
    finally:
        if file is not None:
            with atomic_write(file) as temporary:
                temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return EXIT_DONE if good else EXIT_FAILED
