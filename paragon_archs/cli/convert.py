"""`paragon convert IN -o OUT`: the same weights in another layout, form or dtype."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.dtypes import DTYPES, dtype_of
from .common import EXIT_DONE, Parser, execute, new_output, parser, read_ours
from .startup import load_spandrel

OURS_ALONE = ("settings",)  # entries that the released layouts do not have
DESCRIBED = ("architecture", "arguments", "scale", "form")


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrites a weight file so that it opens elsewhere, or here with all it needs."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "convert",
        "Rewrites a weight file; what is not asked for stays as it is.",
        "paragon convert net_g_latest.pth -o 2xPhoto.safetensors --layout released",
        "paragon convert net_g.pth -o half.safetensors --form fused --dtype fp16",
    )
    arguments.add_argument("input", help="weight file of one of this pack's networks")
    arguments.add_argument("-o", "--output", required=True, help="file to write")
    arguments.add_argument(
        "--layout",
        choices=["released", "ours"],
        default="ours",
        help="released: the published entries alone; ours: with what they lack",
    )
    arguments.add_argument("--form", choices=["training", "fused"])
    arguments.add_argument(
        "--format", choices=["safetensors", "pth"], help="checked against OUTPUT"
    )
    arguments.add_argument("--dtype", choices=[*DTYPES])
    arguments.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    unseen = arguments.add_argument_group(
        "what released ParagonSR2 weights do not record"
    )
    unseen.add_argument("--upsampler_alpha", type=float, help="0 to 1")
    unseen.add_argument("--window_size", type=int, help="in pixels")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()

    from ..checkpoint import describe, load_model, read_metadata, save_state_dict
    from ..fuse import fuse_model, is_fused
    from ..weights import resolve

    output = new_output(Path(options.output), options.overwrite)
    if options.format and output.suffix != f".{options.format}":
        raise ValueError(
            f"Expected OUTPUT to end in .{options.format}, to fit --format, but got "
            f"{str(output)!r}. Leave --format out: the extension is enough."
        )
    source = str(resolve(options.input))
    state, _, reading = read_ours(source)
    form = options.form or reading.form
    if reading.form == "fused" and form == "training":
        raise ValueError(
            f"Expected a checkpoint in training form for --form training, but got "
            f"{options.input!r}, which is fused: its branches are summed for good. "
            "Use the checkpoint that it was fused from."
        )
    unseen = ("upsampler_alpha", "window_size")
    overrides = {k: getattr(options, k) for k in unseen}
    overrides = {k: v for k, v in overrides.items() if v is not None}
    model = load_model(source, overrides=overrides).model
    if form != reading.form:
        if is_fused(model):
            raise ValueError(
                f"Expected a network with parallel branches for --form fused, but got "
                f"{options.input!r}, which has none to sum. Leave --form out."
            )
        model = fuse_model(model)
    tensors = dict(model.state_dict())
    recorded = {
        k: tensors.pop(k)
        for k in OURS_ALONE
        if options.layout == "released" and k in tensors
    }
    floating = [v.dtype for v in state.values() if v.is_floating_point()]
    dtype = dtype_of(options.dtype) if options.dtype else floating[0]
    tensors = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()
    }
    kept = {k: v for k, v in read_metadata(source).items() if k not in DESCRIBED}
    save_state_dict(tensors, output, {**describe(model), **kept, "form": form})
    _warn_of_loss(recorded, load_model(output).model, model)
    print(f"wrote {output}")
    return EXIT_DONE


def _warn_of_loss(recorded: dict[str, object], written: Any, model: Any) -> None:
    if not recorded:
        return
    lost = [
        f"{name} {model.hyperparameters[name]} (opened with "
        f"{written.hyperparameters[name]})"
        for name in ("upsampler_alpha", "window_size")
        if model.hyperparameters[name] != written.hyperparameters[name]
    ]
    if lost:
        print(
            f"warning: the released layout does not record {' and '.join(lost)}; give "
            "it to whoever gets the file",
            file=sys.stderr,
        )
