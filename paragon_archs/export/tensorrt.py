"""ONNX graph -> TensorRT engine, through the tensorrt package where it is installed.

An engine fits one GPU model and one version of TensorRT; both, and the graph, are in
its cache key.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import torch

from ..utils.files import atomic_write

Size = tuple[int, int]


def profile_shapes(
    sizes: tuple[Size, Size, Size], channels: int = 3, features: int | None = None
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Returns the least, the usual and the largest shape of every input.

    Args:
        sizes: Height and width: least, usual, largest.
        channels: Channels of the picture.
        features: Channels of `prev_feat`, for a video graph.

    Raises:
        ValueError: when the sizes do not ascend.
    """
    low, usual, high = sizes
    if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
        shown = ", ".join(f"{h}x{w}" for h, w in sizes)
        raise ValueError(
            f"Expected the least, usual and largest size to ascend, but got {shown}. "
            "Order --min, --opt and --max."
        )
    shapes = {"input": channels, "prev_feat": features}
    return {
        name: ((1, count, *low), (1, count, *usual), (1, count, *high))
        for name, count in shapes.items()
        if count is not None
    }


def trtexec_line(
    graph: str | Path,
    engine: str | Path,
    dtype: str,
    shapes: dict[str, tuple[tuple[int, ...], ...]],
) -> str:
    """Returns the `trtexec` command that builds the same engine."""
    flag = {"fp16": " --fp16", "bf16": " --bf16"}.get(dtype, "")
    profiles = []
    for index, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        inputs = ",".join(
            f"{name}:{'x'.join(map(str, three[index]))}"
            for name, three in shapes.items()
        )
        profiles.append(f"--{option}={inputs}")
    return f"trtexec --onnx={graph} --saveEngine={engine}{flag} {' '.join(profiles)}"


def load_tensorrt(line: str) -> Any:
    """Imports the tensorrt package.

    Args:
        line: The `trtexec` command for those who lack it.

    Raises:
        ImportError: when it is absent.
    """
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":  # there, but broken: its own error says more
            raise
        raise ImportError(
            "Expected the package tensorrt to be installed, but it is not. Run: pip "
            f"install tensorrt. Or build the engine with: {line}",
            name="tensorrt",
        ) from error


def cache_key(graph: bytes, gpu: str, version: str) -> str:
    """Returns a name for an engine: GPU, TensorRT version and hash of the graph."""
    model = re.sub(r"[^A-Za-z0-9]+", "-", gpu).strip("-")
    return f"{model}_trt{version}_{hashlib.sha256(graph).hexdigest()[:16]}"


def build_engine(
    trt: Any,
    graph: bytes,
    path: str | Path,
    dtype: str,
    shapes: dict[str, tuple[tuple[int, ...], ...]],
    workspace: int = 4 << 30,
) -> str:
    """Builds an engine and writes it; returns its cache key.

    Args:
        trt: The tensorrt package.
        graph: The ONNX file's content, float32.
        path: The engine.
        dtype: `fp32`, `fp16` or `bf16`: what the builder may choose besides float32.
        shapes: What `profile_shapes` returns.
        workspace: Bytes that the builder may try out.

    Raises:
        RuntimeError: without a GPU, or when TensorRT refuses the graph.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(
            "Expected a CUDA GPU to build an engine on, but torch sees none. Engines "
            "are built on the machine that runs them."
        )
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # Explicit batch is the only kind from version 10 on; 8 wants it said.
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        faults = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeError(
            f"Expected TensorRT to read the graph, but it did not: {faults}. Try a "
            "newer version."
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if dtype != "fp32":
        config.set_flag(getattr(trt.BuilderFlag, dtype.upper()))
    profile = builder.create_optimization_profile()
    for name, three in shapes.items():
        profile.set_shape(name, *three)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(
            "Expected TensorRT to build an engine, but it did not; its log above says "
            "why. Smaller --max sizes take less memory."
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(bytes(engine))
    return cache_key(graph, torch.cuda.get_device_name(), trt.__version__)


def sizes_of(
    low: Size | None, usual: Size | None, high: Size | None
) -> tuple[Size, Size, Size]:
    """Fills in what was not given: 64x64, 720x1280 and 1080x1920."""
    return (low or (64, 64), usual or (720, 1280), high or (1080, 1920))
