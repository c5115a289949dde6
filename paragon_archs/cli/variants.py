"""`paragon variants`: the networks of this pack."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .common import EXIT_DONE, Parser, add_json, execute, parser, print_json


def main(argv: Sequence[str] | None = None) -> int:
    """Prints every variant with its parameter count and hyperparameters."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "variants",
        "Lists the networks of this pack: YAML `type`, parameters, hyperparameters.",
        "paragon variants --scale 2",
        "paragon variants --markdown",
    )
    arguments.add_argument(
        "--scale", type=int, default=4, help="scale to count parameters at (4)"
    )
    arguments.add_argument(
        "--markdown", action="store_true", help="as the table of the docs"
    )
    add_json(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    import torch

    from ..archs import create, variants

    table, counts = variants(), {}
    for name in table:
        with torch.device("meta"):  # counted, never filled
            model = create(name, options.scale)
        counts[name] = sum(p.numel() for p in model.parameters())
    if options.json:
        print_json(
            [
                {"name": n, "scale": options.scale, "parameters": counts[n], **v}
                for n, v in table.items()
            ]
        )
        return EXIT_DONE
    if options.markdown:
        print(f"| variant | parameters at x{options.scale} | hyperparameters |")
        print("| --- | --- | --- |")
    width = max(map(len, table))
    for name, values in table.items():
        text = ", ".join(f"{k}={v}" for k, v in values.items())
        if options.markdown:
            print(f"| `{name}` | {counts[name]:,} | {text} |")
        else:
            print(f"{name:<{width}}  {counts[name]:>12,}  {text}")
    return EXIT_DONE
