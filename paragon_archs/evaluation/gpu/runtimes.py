"""Exported graphs and engines on this device."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...deploy import deploy_model
from ...export import export_onnx
from ...export.tensorrt import build_engine, load_tensorrt, profile_shapes
from ...inference.backends import PROVIDERS, load_graph
from ...utils.optional import need
from .bench import Bench, milliseconds
from .parity import LIMITS, error
from .report import Row, Section

_VARIANT = "paragonsr2_realtime"


def section(bench: Bench) -> Section:
    """Returns the table of runtimes."""
    lines: dict[str, Callable[[], Row]] = {}
    for provider in ("cuda", "tensorrt", "dml", "coreml", "cpu"):
        if (provider == "cpu") == bench.small:
            name = f"onnxruntime, {provider}"
            lines[name] = functools.partial(_onnx, bench, provider)
    for dtype in ("fp16", "fp32"):
        lines[f"TensorRT, {dtype}"] = functools.partial(_tensorrt, bench, dtype)
    return Section(
        "Other runtimes",
        f"{_VARIANT}: the error as above, and milliseconds for {bench.frame}.",
        ("runtime", "error", "ms"),
        lines,
    )


def _onnx(bench: Bench, provider: str) -> Row:
    if importlib.util.find_spec("onnxruntime") is None:
        return Row(["not installed"])
    runtime = need("onnxruntime", "graphs", "paragon-archs[onnx]")
    if PROVIDERS[provider] not in runtime.get_available_providers():
        return Row(["not in this onnxruntime"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        export_onnx(bench.network(_VARIANT), file)
        model = load_graph(file, bench.device, [provider])
    return _compared(bench, model, "fp32")


def _tensorrt(bench: Bench, dtype: str) -> Row:
    if importlib.util.find_spec("tensorrt") is None:
        return Row(["not installed"])
    if bench.small:
        return Row(["not on a CPU"])
    with tempfile.TemporaryDirectory() as folder:
        file, engine = Path(folder) / "graph.onnx", Path(folder) / "engine.trt"
        export_onnx(bench.network(_VARIANT), file, dtype=dtype)
        shapes = profile_shapes(((64, 64), bench.size, bench.size))
        with torch.cuda.device(bench.device):
            build_engine(load_tensorrt(dtype), file.read_bytes(), engine, dtype, shapes)
        model = load_graph(engine, bench.device)
    return _compared(bench, model, dtype)


def _compared(bench: Bench, model: Callable[[Tensor], Tensor], dtype: str) -> Row:
    x = bench.image(*((24, 40) if bench.small else (72, 97)))
    with torch.inference_mode():
        wanted = deploy_model(bench.network(_VARIANT))(x)
        found = error(model(x.to(bench.device)), wanted)
        frame = bench.image(*bench.size).to(bench.device)
        taken = bench.seconds(lambda: model(frame))
    held = found <= 10 * LIMITS["fp32"] if dtype == "fp32" else found <= LIMITS["fp16"]
    shown = f"{found:.0e}" if held else f"**{found:.0e}**"
    return Row([shown, milliseconds(taken)], held)
