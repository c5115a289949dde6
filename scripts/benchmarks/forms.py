"""The forms that a network is timed in: the pack's own, and other runtimes' graphs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from paragon_archs.deploy import deploy_model
from paragon_archs.export import export_onnx
from paragon_archs.export.check import GraphMismatchError
from paragon_archs.export.ncnn import export_ncnn, net_runner
from paragon_archs.export.onnx import session_runner
from paragon_archs.fuse import fuse_model
from paragon_archs.inference.openvino_model import OpenVINOModel
from paragon_archs.utils.optional import need

from .published import PublishedForm

logger = logging.getLogger(__name__)

Run = Callable[[Tensor], Tensor]

RUNTIMES = ("deploy", "compiled", "onnx", "openvino", "ncnn")
"""What runs the same weights in float32: torch twice, then the other runtimes."""

HALVES = ("deploy-bf16", "compiled-bf16", "onnx-fp16", "openvino-bf16", "ncnn-fp16")
"""The same in the half precision that each offers on a CPU."""

FORMS = ("published", "fused", *RUNTIMES, *HALVES, "onnx-published")


@dataclass(frozen=True)
class Form:
    """What is called, and the module whose multiply-adds it does."""

    run: Run
    module: nn.Module


def build(
    model: nn.Module, x: Tensor, forms: Sequence[str], folder: Path
) -> dict[str, Form]:
    """Returns a network's forms in the order of `FORMS`, without those that it lacks.

    Args:
        model: The network.
        x: An input, for dtype and device.
        forms: Out of `FORMS`.
        folder: Where graphs lie; those that are there already are taken.
    """
    fused = fuse_model(model).eval().requires_grad_(False)
    deployed = deploy_model(model)
    try:
        published: nn.Module | None = PublishedForm(model).to(x)
    except ValueError:
        published = None
    made: dict[str, Form] = {}
    for form in FORMS:
        if form not in forms or ("published" in form and published is None):
            continue
        module = fused if form == "fused" else published or deployed
        if "published" not in form and form != "fused":
            module = deployed
        try:
            made[form] = Form(_run(form, model, module, folder), module)
        except GraphMismatchError as error:
            logger.warning("%s is left out: %s", form, error)
    return made


def _run(form: str, model: nn.Module, module: nn.Module, folder: Path) -> Run:
    """Returns what to call for a form of a network, of which `module` is the base."""
    kind, _, half = form.partition("-")
    if kind in ("published", "fused", "deploy"):
        return _in_half(module) if half else module
    if kind == "compiled":
        return torch.compile(_in_half(module) if half else module)
    if kind == "ncnn":
        return _in_ncnn(model, folder, half == "fp16")
    # An ONNX graph: OpenVINO makes its half precision of that in float32.
    dtype = half if half == "fp16" else "fp32"
    graph = folder / f"{'published' if half == 'published' else 'deploy'}-{dtype}.onnx"
    if not graph.is_file():
        export_onnx(module if half == "published" else model, graph, dtype=dtype)
    if kind == "openvino":
        return OpenVINOModel(graph, half or "f32")
    onnxruntime = need("onnxruntime", "its graphs", "paragon-archs[onnx]")
    run = session_runner(onnxruntime, graph, threads=torch.get_num_threads())
    return lambda x: torch.from_numpy(run([x.float().cpu().numpy()])[0])


def _in_half(module: nn.Module) -> Run:
    """Returns a network in bfloat16 behind inputs and outputs in the input's dtype."""
    half = copy.deepcopy(module).bfloat16()
    return lambda x: half(x.bfloat16()).to(x.dtype)


def _in_ncnn(model: nn.Module, folder: Path, half: bool) -> Run:
    ncnn = need("ncnn", "its models", "paragon-archs[ncnn]")
    target = folder / "ncnn"
    if not target.with_suffix(".param").is_file():
        export_ncnn(model, target)
    run = net_runner(
        ncnn, target.with_suffix(".param"), half, threads=torch.get_num_threads()
    )
    return lambda x: torch.from_numpy(run([x.float().cpu().numpy()])[0])
