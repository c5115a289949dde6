"""`scripts/convert_onnx_release.py`: the published command that makes ONNX releases."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.paths import find_images
from ..utils.files import atomic_write, make_folder
from ..utils.optional import need
from .common import (
    EXIT_DONE,
    CommandError,
    Parser,
    check_claims,
    execute,
    new_output,
    parser,
    stem,
)
from .export import write_graph
from .progress import progress
from .startup import load_spandrel

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


def main(argv: Sequence[str] | None = None) -> int:
    """Exports a checkpoint as FOLDER/NAME.onnx, or NAME_video.onnx with `--video`."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "",
        "Writes NAME.onnx (with --video NAME_video.onnx) and checks it against torch. "
        "What the checkpoint records need not be repeated; a flag that contradicts it "
        "is an error.",
        "python scripts/convert_onnx_release.py --arch paragonsr2_photo --scale 2 "
        "--checkpoint model.safetensors",
        "python scripts/convert_onnx_release.py --checkpoint model.safetensors "
        "--output graphs --video",
        program="convert_onnx_release.py",
    )
    arguments.add_argument("--checkpoint", required=True, help="weights")
    arguments.add_argument("--arch", help="checked against the checkpoint")
    arguments.add_argument("--scale", type=int, help="checked against the checkpoint")
    arguments.add_argument("--output", default=".", help="folder (the current one)")
    arguments.add_argument("--opset", type=int, default=18, help="18 to 20 (18)")
    arguments.add_argument("--video", action="store_true", help="graph with memory")
    arguments.add_argument("--val_dir", help="also compare on pictures of this folder")
    arguments.add_argument(
        "--val_count", type=int, default=5, help="how many of them (5)"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace the file")
    unrecorded = arguments.add_argument_group("what released weights do not record")
    unrecorded.add_argument("--upsampler_alpha", type=float, help="0 to 1")
    unrecorded.add_argument(
        "--detail_gain", type=float, help="checked: weights hold it"
    )
    unrecorded.add_argument("--attention_mode", help="sdpa or flex: the same result")
    unrecorded.add_argument(
        "--export_safe", action="store_true", help="for weights without attention"
    )
    unrecorded.add_argument(
        "--window_size", type=int, help="side of the attention windows"
    )
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    from ..checkpoint import load_model
    from ..weights import resolve

    source = options.checkpoint
    named = ("upsampler_alpha", "attention_mode", "window_size")
    overrides = {n: v for n in named if (v := getattr(options, n)) is not None}
    if options.export_safe:
        overrides["export_safe"] = True
    descriptor = load_model(resolve(source), overrides=overrides)
    check_claims(descriptor, source, options.arch, options.scale)
    _check_gain(descriptor, options.detail_gain)
    folder = Path(options.output)
    output = folder / f"{stem(source)}{'_video' * options.video}.onnx"
    new_output(output, options.overwrite)
    pictures = _pictures(options)
    make_folder(folder)
    with atomic_write(output) as graph:
        with progress(options):
            found = write_graph(
                descriptor, graph, opset=options.opset, video=options.video
            )
        print(f"checked against torch: {found}")
        if pictures:
            _validate(descriptor, graph, pictures, options.video)
    print(f"wrote {output}")
    return EXIT_DONE


def _check_gain(descriptor: ImageModelDescriptor[Any], claimed: float | None) -> None:
    """Holds `--detail_gain` to the weights, which hold the trained value."""
    held = getattr(descriptor.model, "detail_gain", None)
    if claimed is not None and held is not None and abs(float(held) - claimed) > 1e-3:
        raise ValueError(
            f"Expected --detail_gain to be {float(held):.4g}, as recorded in the "
            f"checkpoint, but got {claimed}. Leave the flag out: training changes "
            "the value."
        )


def _pictures(options: argparse.Namespace) -> list[Path]:
    """Returns the pictures of `--val_dir` to compare on, if it was given."""
    if not options.val_dir:
        return []
    return find_images(options.val_dir)[: options.val_count]


def _validate(
    descriptor: ImageModelDescriptor[Any],
    graph: Path,
    files: Sequence[Path],
    video: bool,
) -> None:
    """Prints the largest difference between the graph and torch on pictures."""
    import numpy as np
    import torch

    from ..export.onnx import session_runner

    onnxruntime = need("onnxruntime", "ONNX graphs", "paragon-archs[onnx]")
    image = need("PIL.Image", "reading pictures", "pillow")
    run = session_runner(onnxruntime, graph)
    mode = {1: "L", 4: "RGBA"}.get(descriptor.input_channels, "RGB")
    for file in files:
        with image.open(file) as opened:
            pixels = np.asarray(opened.convert(mode), dtype=np.float32) / 255
        x = torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)[None].contiguous()
        inputs = [x.numpy()]
        if video:
            width = descriptor.model.hyperparameters["num_feat"]
            inputs.append(np.zeros((1, width, *x.shape[2:]), dtype=np.float32))
        with torch.inference_mode():
            want = descriptor.model(x).numpy()
        worst = float(np.abs(run(inputs)[0] - want).max())
        print(f"{file.name}: differs by at most {worst:.2e}")
        if not worst <= 1e-3:
            raise CommandError(
                f"Expected the graph to answer as torch does on {str(file)!r}, but it "
                f"differs by {worst:.2e} (allowed 1e-3). Nothing was written."
            )
