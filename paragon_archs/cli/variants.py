"""`paragon variants`: the networks of this pack."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..archs import create, variants
from .common import EXIT_DONE, guarded, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints every variant with its parameter count and hyperparameters."""
    arguments = parser(
        "variants",
        "Lists the networks of this pack: YAML `type`, parameters, hyperparameters.",
        "paragon variants --scale 2",
    )
    arguments.add_argument(
        "--scale", type=int, default=4, help="scale to count parameters at (4)"
    )
    arguments.add_argument(
        "--markdown", action="store_true", help="as the README's table"
    )
    options = arguments.parse_args(argv)
    return guarded(lambda: _list(options.scale, options.markdown))


def _list(scale: int, markdown: bool) -> int:
    table = variants()
    width = max(map(len, table))
    if markdown:
        print(f"| variant | parameters at x{scale} | hyperparameters |")
        print("| --- | --- | --- |")
    for name, values in table.items():
        with torch.device("meta"):  # counted, never filled
            model = create(name, scale)
        count = sum(p.numel() for p in model.parameters())
        text = ", ".join(f"{k}={v}" for k, v in values.items())
        if markdown:
            print(f"| `{name}` | {count:,} | {text} |")
        else:
            print(f"{name:<{width}}  {count:>12,}  {text}")
    return EXIT_DONE
