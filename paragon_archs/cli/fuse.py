"""`paragon fuse IN [-o OUT]`, and `scripts/fuse_model.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..utils.files import make_folder
from .common import (
    EXIT_DONE,
    Parser,
    check_claims,
    checkpoint_of,
    execute,
    new_output,
    parser,
    read_ours,
    stem,
)
from .startup import load_spandrel


def main(argv: Sequence[str] | None = None) -> int:
    """Fuses a training checkpoint into the community's release layout."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "fuse",
        "Turns a training checkpoint into the fused form: same picture, fewer tensors.",
        "paragon fuse net_g_latest.safetensors",
        "paragon fuse net_g_latest.safetensors -o 4xMyModel_fused.safetensors",
    )
    arguments.add_argument("input", nargs="?", help="checkpoint in training form")
    arguments.add_argument(
        "-o", "--output", help="file to write (INPUT_fused.safetensors)"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    published = arguments.add_argument_group("published flags")
    published.add_argument("--checkpoint", help="same as INPUT")
    published.add_argument("--out-dir", help="folder for NAME_fused.safetensors")
    published.add_argument("--variant", help="checked against the checkpoint")
    published.add_argument("--scale", type=int, help="checked against the checkpoint")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    from ..checkpoint import load_model, read_metadata, save_model
    from ..fuse import fuse_model, is_fused
    from ..weights import resolve

    source = checkpoint_of(options)
    file = str(resolve(source))
    _, _, reading = read_ours(file)
    descriptor = load_model(file)
    check_claims(descriptor, source, options.variant, options.scale)
    if is_fused(descriptor.model):
        state = "is fused" if reading.form == "fused" else "has nothing to fuse"
        raise ValueError(
            f"Expected a checkpoint in training form, but got {source!r}, which "
            f"{state}. Use it as it is."
        )
    output = _output(source, options.output, options.out_dir)
    new_output(output, options.overwrite)
    if options.out_dir:
        make_folder(output.parent)
    kept = {
        k: v
        for k, v in read_metadata(file).items()
        if k not in ("architecture", "arguments", "scale")
    }
    save_model(fuse_model(descriptor.model), output, {**kept, "form": "fused"})
    print(f"wrote {output}")
    return EXIT_DONE


def _output(source: str, output: str | None, folder: str | None) -> Path:
    if output and folder:
        raise ValueError(
            "Expected -o or --out-dir, but got both. Leave one of the two out."
        )
    if output:
        return Path(output)
    return Path(folder or Path(source).parent) / f"{stem(source)}_fused.safetensors"
