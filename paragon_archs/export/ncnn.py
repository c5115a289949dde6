"""Network -> ncnn's .param and .bin, for upscayl, video2x and realesrgan-ncnn-vulkan.

The blobs are called `data` and `output`, as those programs expect; any size; run in
ncnn against torch before the files get their names.
"""

from __future__ import annotations

import copy
import logging
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..deploy import deploy_model
from ..fuse import fuse_model
from ..utils.files import atomic_write
from ..utils.optional import need
from .check import Comparison, GraphMismatchError, Shape, compare

# One picture at a time, as ncnn takes them; none is a size that the converter saw.
SIZES: tuple[Shape, ...] = ((1, 5, 9), (1, 17, 23), (1, 40, 31))
_SEEN: tuple[Shape, ...] = ((1, 64, 64), (1, 96, 80))

logger = logging.getLogger(__name__)

_BLOBS = {"in0": "data", "out0": "output"}
_PACKAGE = "paragon-archs[ncnn]"


class _PlainHead(nn.Module):
    """The head as the network has it: pnnx misreads the cuts of the merged one."""

    def __init__(self, up: nn.Sequential, last: nn.Conv2d, gain: float) -> None:
        super().__init__()
        self.up = up
        self.last = copy.deepcopy(last)
        for value in self.last.parameters():
            value.data = (gain * value.double()).float()

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        y = self.last(self.up(x))
        return y if base is None else base + y


def export_ncnn(
    model: nn.Module,
    path: str | Path,
    *,
    dtype: str = "fp32",
    in_chans: int | None = None,
) -> Comparison:
    """Writes a network as `PATH.param` and `PATH.bin` and checks it in ncnn.

    Args:
        model: The network, training or fused form; a copy of it is exported.
        path: Both files' name without its last extension.
        dtype: How weights are stored, `fp32` or `fp16`.
        in_chans: Channels of the input; from the model's hyperparameters otherwise.

    Returns:
        The comparison with torch.

    Raises:
        ImportError: without ncnn or pnnx.
        ValueError: for another dtype.
        GraphMismatchError: when ncnn lacks a layer or answers otherwise; no file is
            left.
    """
    if dtype not in ("fp32", "fp16"):
        raise ValueError(
            f"Expected dtype to be fp32 or fp16, but got {dtype!r}. ncnn stores no "
            "other."
        )
    ncnn, pnnx = (need(n, "ncnn models", _PACKAGE) for n in ("ncnn", "pnnx"))
    channels = in_chans or getattr(model, "hyperparameters", {}).get("in_chans", 3)
    reference = fuse_model(model).float().cpu().eval().requires_grad_(False)
    network = _plain(deploy_model(reference), reference)

    def make_inputs(size: Shape) -> list[Tensor]:
        generator = torch.Generator().manual_seed(size[1] * size[2])
        return [torch.rand(1, channels, *size[1:], generator=generator)]

    target = Path(path)
    param, binary = (target.with_name(target.name + s) for s in (".param", ".bin"))
    with tempfile.TemporaryDirectory() as folder:
        logger.info("converting %s with pnnx", type(model).__name__)
        made = _convert(
            pnnx, network, [make_inputs(s)[0] for s in _SEEN], dtype, folder
        )
        _check_layers(made, type(model).__name__)
        logger.info("comparing with torch")
        found = compare(net_runner(ncnn, made), reference, make_inputs, dtype, SIZES)
        if not found.passed:
            raise GraphMismatchError(
                f"Expected ncnn to answer as torch does, but got {found}. Nothing was "
                "written."
            )
        with atomic_write(param) as text, atomic_write(binary) as weights:
            text.write_bytes(made.read_bytes())
            weights.write_bytes(made.with_suffix(".bin").read_bytes())
    return found


def _plain(network: nn.Module, reference: Any) -> nn.Module:
    """Puts the network's own head and base path where the deploy form merges them."""
    if hasattr(network, "head"):
        up = reference.up if hasattr(reference, "up") else reference.upsampler
        gain = float(getattr(reference, "detail_gain", 1))
        network.head = _PlainHead(up, reference.conv_out, gain)
    if hasattr(network, "cells"):
        network.cells = reference.base
    return network.eval().requires_grad_(False)


def _convert(
    pnnx: ModuleType,
    network: nn.Module,
    inputs: Sequence[Tensor],
    dtype: str,
    folder: str,
) -> Path:
    """Returns the .param that pnnx makes of a network, its .bin beside it."""
    traced = Path(folder) / "m.pt"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, about the age of its tracer
        torch.jit.save(torch.jit.trace(network, inputs[0], check_trace=False), traced)
    shapes = [f"[{','.join(map(str, x.shape))}]f32" for x in inputs]
    done = subprocess.run(
        [
            pnnx.EXEC_PATH,
            traced.name,
            f"inputshape={shapes[0]}",
            f"inputshape2={shapes[1]}",
            f"fp16={int(dtype == 'fp16')}",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    param = Path(folder) / "m.ncnn.param"
    if done.returncode or not param.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no word of why"]
        raise GraphMismatchError(
            f"Expected pnnx to convert the network, but it ended with "
            f"{done.returncode}: {lines[-1]}. Use an .onnx graph."
        )
    rows = [line.split() for line in param.read_text().splitlines()]
    named = [" ".join(_BLOBS.get(word, word) for word in row) for row in rows]
    param.write_text("\n".join(named) + "\n")
    return param


def _check_layers(param: Path, network: str) -> None:
    """Refuses a file that names operators which are no layers of ncnn."""
    kinds = {line.split()[0] for line in param.read_text().splitlines()[2:]}
    # ncnn's layers are words like BinaryOp; torch's and pnnx's have a dot or a colon.
    foreign = sorted(k for k in kinds if not k.isalnum())
    if foreign:
        raise GraphMismatchError(
            f"Expected ncnn to have every operator of {network}, but it lacks "
            f"{', '.join(foreign)}. Use an .onnx graph; networks without window "
            "attention convert."
        )


def net_runner(
    ncnn: ModuleType, param: Path, half: bool = False, threads: int = 0
) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
    """Returns a function that runs a model on the CPU.

    Args:
        ncnn: The package.
        param: The model's .param, beside which its .bin lies.
        half: Whether it may use float16, as is ncnn's habit; float32 alone otherwise.
        threads: CPU threads; 0 leaves the choice to ncnn.

    Raises:
        GraphMismatchError: when ncnn cannot read it.
    """
    net = ncnn.Net()
    for option in ("storage", "arithmetic", "packed"):
        setattr(net.opt, f"use_fp16_{option}", half)
    net.opt.use_bf16_storage = False
    net.opt.use_vulkan_compute = False
    if threads:
        net.opt.num_threads = threads
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise GraphMismatchError(
            "Expected ncnn to read what pnnx wrote, but it does not. Bring both "
            "packages to versions of the same month."
        )

    def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(arrays[0][0]).clone())
        failed, output = extractor.extract("output")
        if failed:
            raise GraphMismatchError(
                f"Expected ncnn to run the model at {arrays[0].shape}, but it failed. "
                "Use an .onnx graph."
            )
        return [output.numpy()[None].copy()]

    return run
