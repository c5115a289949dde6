"""Network -> ONNX file, for the strictest of the graph's consumers.

One file, default-domain operators alone, the IR version that onnxruntime 1.17 reads,
float32 in and out under the names `input` and `output`, dynamic batch, height and
width; run in onnxruntime against torch before the file gets its name.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoint import describe
from ..deploy import deploy_model
from ..fuse import fuse_model
from ..strips import StripEngine, UntraceableError
from ..utils.dtypes import dtype_of
from ..utils.files import atomic_write
from ..utils.optional import need
from ..utils.progress import task
from .check import SIZES, Comparison, GraphMismatchError, Shape, compare

OPSETS = (18, 19, 20)
"""The exporter writes 18 and more; chaiNNer's onnx refuses 21."""

_MAX_IR = {18: 8, 19: 9, 20: 9}

_DTYPES = ("fp32", "fp16")  # those that the format's convolutions take

logger = logging.getLogger(__name__)

_AXES = ("batch", None, "height", "width")


class VideoStep(nn.Module):
    """A network with memory: (input, prev_feat) -> (output, feature_map).

    An image of zeros for `prev_feat` means that there is no frame before, so that the
    first one is not dimmed: its share in the blend is then 0, in the batch's every
    image apart.
    """

    def __init__(self, network: nn.Module, alpha: float) -> None:
        super().__init__()
        self.network = network
        self.alpha = alpha

    def forward(self, x: Tensor, prev_feat: Tensor) -> tuple[Tensor, Tensor]:
        known = prev_feat.abs().amax((1, 2, 3), keepdim=True).sign()
        return self.network(x, True, prev_feat, self.alpha * known)


class Graph(nn.Module):
    """A network in the graph's dtype behind float32 inputs and outputs."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer = self.network(*(x.to(self.dtype) for x in inputs))
        if isinstance(answer, tuple):
            return tuple(y.float() for y in answer)
        return answer.float()


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    dtype: str = "fp32",
    opset: int = 18,
    static: tuple[int, int] | None = None,
    video: bool = False,
    alpha: float = 0.2,
    in_chans: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Comparison:
    """Writes a network as an ONNX graph and checks it in onnxruntime.

    Args:
        model: The network, training or fused form; a copy of it is exported.
        path: The file; it appears only when the graph agrees with torch.
        dtype: Precision inside the graph, `fp32` or `fp16`; in and out stay float32.
        opset: Version of the operators, 18 to 20.
        static: Height and width to fix, with a batch of one; dynamic otherwise.
        video: Whether the graph carries features from frame to frame: a second input
            `prev_feat` and a second output `feature_map`; for ParagonSR2.
        alpha: Share of `prev_feat` in the blend, for video.
        in_chans: Channels of the input; from the model's hyperparameters otherwise.
        metadata: Added to the file's own.

    Returns:
        The comparison with torch.

    Raises:
        ImportError: without onnx, onnxscript or onnxruntime.
        ValueError: for a dtype or opset that the format or its readers lack.
        GraphMismatchError: when the graph's answers differ; no file is left.
    """
    _check(model, dtype, opset, video)
    onnx, _, onnxruntime = (
        need(name, "ONNX graphs", "paragon-archs[onnx]")
        for name in ("onnx", "onnxscript", "onnxruntime")
    )
    hyperparameters = getattr(model, "hyperparameters", {})
    channels = [in_chans or hyperparameters.get("in_chans", 3)]
    reference = fuse_model(model).float().cpu().eval().requires_grad_(False)
    network = deploy_model(reference)
    if video:
        channels.append(hyperparameters["num_feat"])
        reference, network = VideoStep(reference, alpha), VideoStep(network, alpha)

    def make_inputs(size: Shape) -> list[Tensor]:
        batch, height, width = size
        generator = torch.Generator().manual_seed(batch + height * width)
        inputs = [
            torch.rand(batch, c, height, width, generator=generator) for c in channels
        ]
        for features in inputs[1:]:  # one image of the check has no frame before it
            features[0] *= batch == 1
        return inputs

    sizes = SIZES if static is None else ((1, *static),)
    # The example is no multiple of a window, nor 1, which exporters take as a constant.
    example = make_inputs((2, 19, 21) if static is None else (1, *static))
    logger.info("tracing %s", type(model).__name__)
    program = _trace(Graph(network, dtype_of(dtype)), example, opset, static is None)
    described = {
        "scale": "",
        **describe(model),
        "dtype": dtype,
        **_peak(network, channels[0]),
        **({"alpha": str(alpha)} if video else {}),
        **(metadata or {}),
    }
    proto = _tidy(program, opset, static is None, described)
    logger.info("comparing %d nodes with torch", len(proto.graph.node))
    onnx.checker.check_model(proto, full_check=True)
    with atomic_write(path) as temporary:
        onnx.save_model(proto, temporary)
        return _compared(onnxruntime, temporary, reference, make_inputs, dtype, sizes)


def _check(model: nn.Module, dtype: str, opset: int, video: bool) -> None:
    """Refuses what the format, its readers or the network lack."""
    if dtype not in _DTYPES:
        hint = (
            "ONNX's Conv takes no bfloat16 at these opsets; export fp32 and give "
            "TensorRT's builder its bf16 flag (`paragon export IN -o OUT.trt --dtype "
            "bf16`)."
            if dtype == "bf16"
            else "Use one of the two."
        )
        raise ValueError(
            f"Expected dtype to be fp32 or fp16, but got {dtype!r}. {hint}"
        )
    if opset not in OPSETS:
        raise ValueError(
            f"Expected opset to be one of {', '.join(map(str, OPSETS))}, but got "
            f"{opset!r}. 18 is what every consumer takes."
        )
    if video and "prev_feat" not in inspect.signature(model.forward).parameters:
        raise ValueError(
            "Expected a network with memory (ParagonSR2) for a video graph, but got "
            f"{type(model).__name__!r}. Leave --video out."
        )


def _compared(
    onnxruntime: ModuleType,
    file: Path,
    reference: nn.Module,
    make_inputs: Callable[[Shape], list[Tensor]],
    dtype: str,
    sizes: Sequence[Shape],
) -> Comparison:
    """Returns the comparison of a graph with torch; raises where they differ."""
    try:
        found = compare(
            session_runner(onnxruntime, file), reference, make_inputs, dtype, sizes
        )
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        raise GraphMismatchError(
            f"Expected onnxruntime to run the graph, but it failed: {error}. "
            "Nothing was written."
        ) from error
    if not found.passed:
        raise GraphMismatchError(
            f"Expected the graph to answer as torch does, but got {found}. "
            "Nothing was written."
        )
    return found


def _peak(network: nn.Module, channels: int) -> dict[str, str]:
    """Returns what a pixel of the input takes at the most, for whoever budgets runs."""
    if isinstance(network, VideoStep):
        network = network.network
    try:
        peak = StripEngine(network, (channels,)).peak((1, 1))
    except UntraceableError:
        return {}
    return {"bytes_per_pixel": f"{peak:.0f}"}


def session_runner(
    onnxruntime: ModuleType, path: str | Path, threads: int = 0
) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
    """Returns a function that runs the graph at `path` on the CPU.

    Args:
        onnxruntime: The package.
        path: The graph.
        threads: CPU threads; 0 leaves the choice to the runtime.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _trace(
    graph: Graph, example: Sequence[Tensor], opset: int, dynamic: bool
) -> torch.onnx.ONNXProgram:
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    # The exporter reports its steps and this pack's opset on stdout and as warnings.
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _counted(graph, example):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(),
                tuple(example),
                input_names=["input", "prev_feat"][: len(example)],
                output_names=["output", "feature_map"][: len(example)],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=(tuple(axes for _ in example),) if dynamic else None,
            )
    finally:
        noisy.setLevel(level)
    assert program is not None
    return program


@contextlib.contextmanager
def _counted(graph: Graph, example: Sequence[Tensor]) -> Iterator[None]:
    """Counts the modules that torch captures, the one part of its work that shows."""
    calls: list[None] = []
    with _hooked(graph, lambda *_: calls.append(None)):
        graph.eval()(*(x[:1] for x in example))  # as many for one image
    with task("capturing", len(calls), "module") as work:

        def count(*_: object) -> None:
            if work.done < len(calls):
                work.advance()

        with _hooked(graph, count):
            yield


@contextlib.contextmanager
def _hooked(graph: Graph, hook: Callable[..., None]) -> Iterator[None]:
    handles = [part.register_forward_hook(hook) for part in graph.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tidy(
    program: torch.onnx.ONNXProgram,
    opset: int,
    dynamic: bool,
    metadata: dict[str, str],
) -> Any:
    """Brings the exporter's graph to the contract; returns an onnx.ModelProto."""
    onnx = need("onnx", "ONNX graphs", "paragon-archs[onnx]")
    proto = program.model_proto
    graph = proto.graph
    proto.ir_version = min(proto.ir_version, _MAX_IR[opset])
    versions = {o.domain: o.version for o in proto.opset_import}
    used = {n.domain for n in graph.node} | {f.domain for f in proto.functions}
    if used - {""} or versions.get("") != opset:
        raise GraphMismatchError(
            f"Expected operators of the default domain, opset {opset}, alone, but the "
            f"exporter wrote {versions}. Try another version of torch."
        )
    del proto.opset_import[:]
    proto.opset_import.append(onnx.helper.make_opsetid("", opset))
    # What the exporter notes about itself: stack traces, with paths of this machine.
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    # Shapes of inner tensors carry the exporter's symbols; readers infer them anew.
    del graph.value_info[:]
    if dynamic:
        for value in graph.input:
            for axis, name in zip(value.type.tensor_type.shape.dim, _AXES, strict=True):
                if name:
                    axis.dim_param = name
        scale = metadata["scale"]
        for value in graph.output:
            factor = f"{scale}*" if value.name == "output" and scale != "1" else ""
            for axis, name in zip(value.type.tensor_type.shape.dim, _AXES, strict=True):
                if name:
                    axis.dim_param = name if name == "batch" else f"{factor}{name}"
    graph.name = metadata["architecture"]
    proto.producer_name, proto.producer_version = "paragon_archs", ""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata)
    return proto
