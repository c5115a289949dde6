"""`paragon variants`: the networks of this pack."""

from __future__ import annotations

from collections.abc import Sequence

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
    options = arguments.parse_args(argv)
    return guarded(lambda: _list(options.scale))


def _list(scale: int) -> int:
    table = variants()
    width = max(map(len, table))
    for name, values in table.items():
        count = sum(p.numel() for p in create(name, scale).parameters())
        text = ", ".join(f"{k}={v}" for k, v in values.items())
        print(f"{name:<{width}}  {count:>12,}  {text}")
    return EXIT_DONE
