"""`paragon interpolate A B --alpha 0.3 -o OUT`: a blend of two weight files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .common import EXIT_DONE, Parser, execute, new_output, parser, read_ours
from .startup import load_spandrel

SEEN_AS_TRAINED = ("detail_gain",)  # arguments that are weights: they blend too


def main(argv: Sequence[str] | None = None) -> int:
    """Blends a fidelity model with its GAN fine-tune, entry by entry."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "interpolate",
        "Blends two weight files of one network: (1 - alpha) * A + alpha * B.",
        "paragon interpolate psnr.safetensors gan.safetensors --alpha 0.3 -o mix.pth",
        "paragon interpolate old.safetensors new.safetensors --alpha 0.5 "
        "-o mean.safetensors",
    )
    arguments.add_argument("first", metavar="A", help="weight file")
    arguments.add_argument("second", metavar="B", help="weight file, same network")
    arguments.add_argument("--alpha", type=float, required=True, help="share of B")
    arguments.add_argument("-o", "--output", required=True, help="file to write")
    arguments.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    import torch

    from ..checkpoint import describe, load_model, save_state_dict
    from ..weights import resolve

    if not 0 <= options.alpha <= 1:
        raise ValueError(
            f"Expected --alpha to be a number from 0 to 1, but got {options.alpha!r}. "
            "0 is A, 1 is B."
        )
    output = new_output(Path(options.output), options.overwrite)
    first, second = str(resolve(options.first)), str(resolve(options.second))
    _, network, a = read_ours(first)
    _, other, b = read_ours(second)
    if network is not other:
        raise ValueError(
            f"Expected two files of one network, but {options.first!r} is a "
            f"{network.name} and {options.second!r} a {other.name}. Only descendants "
            "of the same training blend."
        )
    if a.form != b.form:
        raise ValueError(
            f"Expected both files in one form, but {options.first!r} is in {a.form} "
            f"form and {options.second!r} in {b.form} form. Fuse the one in training "
            "form first (`paragon fuse`)."
        )
    for name, value in a.arguments.items():
        if name not in SEEN_AS_TRAINED and b.arguments[name] != value:
            raise ValueError(
                f"Expected two files of one network, but {name} is {value!r} in "
                f"{options.first!r} and {b.arguments[name]!r} in {options.second!r}. "
                "Only descendants of the same training blend."
            )
    own = load_model(second).model.state_dict()
    model = load_model(first).model
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            blend = torch.lerp(value.double(), own[name].double(), options.alpha)
            state[name] = blend.to(value.dtype)
    names = Path(options.first).name, Path(options.second).name  # folders are private
    sources = f"(1 - {options.alpha}) * {names[0]} + {options.alpha} * {names[1]}"
    save_state_dict(
        state,
        output,
        {**describe(model), "form": a.form, "interpolated": sources},
    )
    print(f"wrote {output}")
    return EXIT_DONE
