"""ONNX graph -> TensorRT engine, through the tensorrt package where it is installed.

An engine fits one GPU model and one version of TensorRT; both, and the graph, are in
its cache key. Written for TensorRT 10 and 11. Precision comes from the graph (strongly
typed networks, the only kind from version 11 on), so an engine computes in the types
that were checked against torch; bfloat16, which ONNX's Conv lacks, is left to the
builder where it still has a flag for it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType

import torch

from ..utils.files import atomic_write, cache_folder
from ..utils.optional import need, start_tensorrt

logger = logging.getLogger(__name__)

Size = tuple[int, int]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Of every input: the least, the usual and the largest shape."""

_WORKSPACE = 4 << 30  # bytes that the builder may try out


def profile_shapes(
    sizes: tuple[Size, Size, Size], channels: int = 3, features: int | None = None
) -> Shapes:
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
    graph: str | Path, engine: str | Path, flag: str, shapes: Shapes
) -> str:
    """Returns the `trtexec` command that builds an engine.

    Args:
        graph: The ONNX file.
        engine: The file to write.
        flag: What decides the precision, `--fp16` or `--stronglyTyped` say.
        shapes: What `profile_shapes` returns.
    """
    profiles = []
    for index, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        inputs = ",".join(
            f"{name}:{'x'.join(map(str, three[index]))}"
            for name, three in shapes.items()
        )
        profiles.append(f"--{option}={inputs}")
    parts = ("trtexec", f"--onnx={graph}", f"--saveEngine={engine}", flag, *profiles)
    return shlex.join(part for part in parts if part)


def load_tensorrt(dtype: str) -> ModuleType:
    """Imports the tensorrt package, of a version that builds engines of `dtype`.

    Args:
        dtype: `fp32`, `fp16` or `bf16`.

    Raises:
        ImportError: when it is absent.
        ValueError: when it is too old, or too new for bfloat16.
    """
    trt = need("tensorrt", "building engines", "tensorrt")
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise ValueError(
            f"Expected TensorRT 10 or newer, but got {trt.__version__}. Run: pip "
            "install --upgrade tensorrt."
        )
    if dtype == "bf16" and not hasattr(trt.BuilderFlag, "BF16"):
        raise ValueError(
            "Expected fp32 or fp16, or a TensorRT before 11, but got bf16 and "
            f"{trt.__version__}, which takes precision from the graph alone, and "
            "ONNX's Conv takes no bfloat16 at these opsets. Use --dtype fp16, or run: "
            "pip install 'tensorrt<11'."
        )
    return trt


def cache_key(graph: bytes, gpu: str, version: str, dtype: str, shapes: Shapes) -> str:
    """Returns a name for an engine: GPU, TensorRT version, hash of all that it is of.

    Args:
        graph: The ONNX file's content.
        gpu: Name of the GPU.
        version: TensorRT's.
        dtype: Precision.
        shapes: What `profile_shapes` returns.
    """
    model = re.sub(r"[^A-Za-z0-9]+", "-", gpu).strip("-")
    digest = hashlib.sha256(graph + repr((dtype, shapes)).encode()).hexdigest()
    return f"{model}_trt{version}_{digest[:16]}"


def build_engine(
    trt: ModuleType, graph: bytes, path: str | Path, dtype: str, shapes: Shapes
) -> str:
    """Writes an engine: a cached one of the same key, or a new one; returns the key.

    Args:
        trt: The tensorrt package.
        graph: The ONNX file's content: float16 inside for `fp16`, else float32.
        path: The engine.
        dtype: `fp32`, `fp16` or `bf16`.
        shapes: What `profile_shapes` returns.

    Raises:
        RuntimeError: without a GPU, or when TensorRT refuses the graph.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(
            "Expected a CUDA GPU to build an engine on, but torch sees none. Engines "
            "are built on the machine that runs them."
        )
    gpu = torch.cuda.get_device_name()
    key = cache_key(graph, gpu, trt.__version__, dtype, shapes)
    kept = cache_folder() / "engines" / f"{key}.trt"
    if not kept.is_file():
        engine = _serialized(trt, graph, dtype, shapes)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as temporary:
            temporary.write_bytes(engine)
    else:
        logger.info("engine %s was built before", key)
    with atomic_write(path) as temporary:
        shutil.copyfile(kept, temporary)
    return key


def _serialized(trt: ModuleType, graph: bytes, dtype: str, shapes: Shapes) -> bytes:
    """Builds an engine and returns its bytes."""
    log = trt.Logger(trt.Logger.WARNING)
    builder = start_tensorrt(trt, "Builder", log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(0 if dtype == "bf16" else typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        faults = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeError(
            f"Expected TensorRT to read the graph, but it did not: {faults}. Try a "
            "newer version."
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    if dtype == "bf16":
        config.set_flag(trt.BuilderFlag.BF16)
    profile = builder.create_optimization_profile()
    for name, (low, usual, high) in shapes.items():
        profile.set_shape(name, low, usual, high)
    if config.add_optimization_profile(profile) < 0:
        raise RuntimeError(
            f"Expected TensorRT to take the shapes {shapes}, but it did not. Give "
            "others with --min, --opt and --max."
        )
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(
            "Expected TensorRT to build an engine, but it did not; its log above says "
            "why. Smaller --max sizes take less memory."
        )
    return bytes(engine)


def sizes_of(
    low: Size | None, usual: Size | None, high: Size | None
) -> tuple[Size, Size, Size]:
    """Fills in what was not given: 64x64, 720x1280 and 1080x1920."""
    return (low or (64, 64), usual or (720, 1280), high or (1080, 1920))
