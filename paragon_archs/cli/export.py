"""`paragon export IN -o OUT.onnx`, and `scripts/export_onnx.py`."""

from __future__ import annotations

import argparse
import functools
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.files import check_folder, make_folder
from .common import (
    EXIT_DONE,
    CommandError,
    Parser,
    check_claims,
    checkpoint_of,
    execute,
    image_size,
    new_output,
    parser,
    stem,
)
from .progress import add_progress, progress
from .startup import load_spandrel
from .steps import reported

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor
    from torch import nn

    from ..export import Comparison
    from ..export.tensorrt import Shapes


NCNN = (".ncnn", ".param")
# How long before tracing, tracing and comparing take, in units of capturing.
_ONNX_STEPS = (0.0, 3.0, 0.2)
_NCNN_STEPS = (0.1, 1.0, 1.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Exports a checkpoint and checks the result against torch."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "export",
        "Writes a checkpoint as an ONNX graph and checks it in onnxruntime against "
        "torch; a graph that differs is not left behind.",
        "paragon export 4xParagonSR_S.safetensors -o 4xParagonSR_S.onnx --dtype fp16",
        "paragon export paragonsr2_stream_x2 -o video.onnx --video",
        "paragon export 4xParagonSR_S.safetensors -o 4xParagonSR_S.trt --dtype fp16",
        "paragon export paragonsr2_realtime_x2 -o realtime-x2.ncnn --dtype fp16",
    )
    arguments.add_argument(
        "input", nargs="?", help="checkpoint, any form; or a shipped model"
    )
    arguments.add_argument(
        "-o",
        "--output",
        help="file to write: .onnx, .trt, or .ncnn (OUT.ncnn.param and OUT.ncnn.bin)",
    )
    arguments.add_argument(
        "--dtype",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="precision inside the graph; in and out stay float32 (fp32)",
    )
    arguments.add_argument("--opset", type=int, default=18, help="18 to 20 (18)")
    arguments.add_argument(
        "--static", metavar="HxW", type=image_size, help="fix height and width, batch 1"
    )
    arguments.add_argument(
        "--video",
        action="store_true",
        help="carry features from frame to frame: input prev_feat, output feature_map",
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    engine = arguments.add_argument_group("TensorRT engines (OUT.trt)")
    for name, usual in (("min", "64x64"), ("opt", "720x1280"), ("max", "1080x1920")):
        engine.add_argument(
            f"--{name}", metavar="HxW", type=image_size, help=f"profile ({usual})"
        )
    add_progress(arguments)
    published = arguments.add_argument_group("published flags")
    published.add_argument("--checkpoint", help="same as INPUT")
    published.add_argument(
        "--out-dir", help="folder for NAME_op18_fp32.onnx and NAME_op18_fp16.onnx"
    )
    published.add_argument("--variant", help="checked against the checkpoint")
    published.add_argument("--scale", type=int, help="checked against the checkpoint")
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    with progress(options):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    load_spandrel()
    from ..checkpoint import load_model
    from ..weights import resolve

    source = checkpoint_of(options)
    descriptor = load_model(resolve(source))
    check_claims(descriptor, source, options.variant, options.scale)
    outputs = _outputs(source, options)
    for output in outputs:
        new_output(output, options.overwrite)
    for output in outputs:
        if output.suffix.lower() in NCNN:
            return _ncnn(descriptor, output, options)
    shapes = _shapes(descriptor, options)
    if options.out_dir:
        make_folder(options.out_dir)
    write = functools.partial(
        write_graph,
        descriptor,
        opset=options.opset,
        static=options.static,
        video=options.video,
    )
    for output, dtype in outputs.items():
        if output.suffix.lower() == ".trt":
            command = ["paragon", "export", source, *["--video"] * options.video]
            _engine(write, shapes, command, output, dtype)
        else:
            _graph(write, shapes, output, dtype)
    return EXIT_DONE


def _graph(
    write: Callable[..., Comparison], shapes: Shapes, output: Path, dtype: str
) -> None:
    """Writes a graph and prints how TensorRT takes it."""
    from ..export.tensorrt import trtexec_line

    print(f"checked against torch: {write(output, dtype=dtype)}")
    print(f"wrote {output}")
    # In a graph of half precision the types are there already.
    flag = "--stronglyTyped" if dtype == "fp16" else "--fp16"
    line = trtexec_line(output, output.with_suffix(".trt"), flag, shapes)
    print(f"for TensorRT: {line}")


def _shapes(
    descriptor: ImageModelDescriptor[nn.Module], options: argparse.Namespace
) -> Shapes:
    """Returns TensorRT's smallest, usual and largest shape of every input."""
    from ..export.tensorrt import profile_shapes, sizes_of

    sizes = sizes_of(options.min, options.opt, options.max)
    if options.static:
        sizes = (options.static,) * 3
    features = None
    if options.video:
        features = getattr(descriptor.model, "hyperparameters", {}).get("num_feat")
    return profile_shapes(sizes, descriptor.input_channels, features)


def _engine(
    write: Callable[..., Comparison],
    shapes: Shapes,
    command: Sequence[str],
    output: Path,
    dtype: str,
) -> None:
    """Builds a TensorRT engine from a checked graph; prints how to do it by hand.

    Args:
        write: Writes the graph: (path, dtype=...).
        shapes: Of every input.
        command: What the user typed for the graph.
        output: The engine.
        dtype: Its precision.
    """
    from ..export.tensorrt import build_engine, load_tensorrt, trtexec_line

    inside = "fp16" if dtype == "fp16" else "fp32"
    onnx = output.with_suffix(".onnx")
    flag = "--bf16" if dtype == "bf16" else "--stronglyTyped"
    by_hand = (
        f"By hand: {shlex.join([*command, '-o', str(onnx), '--dtype', inside])}; "
        f"{trtexec_line(onnx, output, flag, shapes)}"
    )
    try:
        trt = load_tensorrt(dtype)
    except ImportError as error:
        raise ImportError(f"{error} {by_hand}", name=error.name) from error
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        print(f"graph checked against torch: {write(graph, dtype=inside)}")
        try:
            key = build_engine(trt, graph.read_bytes(), output, dtype, shapes)
        except RuntimeError as error:
            raise CommandError(f"{error} {by_hand}") from error
    print(by_hand)
    print(f"wrote {output} ({key})")


def _ncnn(
    descriptor: ImageModelDescriptor[nn.Module],
    output: Path,
    options: argparse.Namespace,
) -> int:
    """Writes OUT.ncnn.param and OUT.ncnn.bin, or OUT.param and OUT.bin."""
    from ..export import GraphMismatchError
    from ..export.ncnn import export_ncnn

    if options.video or options.static:
        raise ValueError(
            f"Expected no --video and no --static for {str(output)!r}, but got one. An "
            "ncnn model takes every size and has no memory; leave it out."
        )
    base = output.with_suffix("") if output.suffix.lower() == ".param" else output
    written = [base.with_name(base.name + suffix) for suffix in (".param", ".bin")]
    for file in written:
        new_output(file, options.overwrite)
    try:
        with reported("export", "exporting", _NCNN_STEPS):
            found = export_ncnn(
                descriptor.model,
                base,
                dtype=options.dtype,
                in_chans=descriptor.input_channels,
            )
    except GraphMismatchError as error:
        raise CommandError(str(error)) from error
    print(f"checked against torch: {found}")
    print(f"wrote {written[0]} and {written[1]}")
    return EXIT_DONE


def write_graph(
    descriptor: ImageModelDescriptor[nn.Module], output: Path, **choices: Any
) -> Comparison:
    """Calls `export_onnx` with what a checkpoint records, and `choices`.

    Raises:
        CommandError: when torch cannot trace the network, or the graph answers
            otherwise than it.
    """
    from ..export import GraphMismatchError, export_onnx

    try:
        with reported("export", "exporting", _ONNX_STEPS):
            return export_onnx(
                descriptor.model,
                output,
                in_chans=descriptor.input_channels,
                metadata={"scale": str(descriptor.scale)},
                **choices,
            )
    except GraphMismatchError as error:
        raise CommandError(str(error)) from error
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise CommandError(
            f"Expected torch to run and to trace {descriptor.architecture.name} at "
            f"every size, but it did not: {reason}. This pack's networks can be "
            "exported; those of others only where torch follows them."
        ) from error


def _outputs(source: str, options: argparse.Namespace) -> dict[Path, str]:
    """Returns each file to write and the precision inside it."""
    if options.output and options.out_dir:
        raise ValueError(
            "Expected -o or --out-dir, but got both. Leave one of the two out."
        )
    if options.out_dir:
        name = f"{stem(source)}{'_video' * options.video}_op{options.opset}"
        folder = Path(options.out_dir)
        return {folder / f"{name}_{d}.onnx": d for d in ("fp32", "fp16")}
    if not options.output:
        raise ValueError("Expected an output, but got none. Give -o OUT.onnx.")
    output = Path(options.output)
    check_folder(output)
    if output.suffix.lower() not in (".onnx", ".trt", *NCNN):
        raise ValueError(
            "Expected the output's extension to be .onnx, .trt or .ncnn, but got "
            f"{str(output)!r}. Name the file so."
        )
    return {output: options.dtype}
