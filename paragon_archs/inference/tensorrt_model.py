"""TensorRT engines as networks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..utils.optional import need, start_tensorrt
from .graph_model import GraphModel
from .streams import Stream

# TensorRT's names of types -> torch's.
_TYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}


class TensorRTModel(GraphModel):
    """A TensorRT engine.

    An engine records neither scale nor variant, so its scale is measured.

    Raises:
        FileNotFoundError: when the file does not exist.
        ValueError: when the engine is of another machine or version.
        ImportError: when tensorrt is missing.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        tensorrt = need("tensorrt", "TensorRT engines", "tensorrt")
        if device.type != "cuda":
            raise ValueError(
                f"Expected a cuda device for an engine, but got {device.type!r}. "
                "Use the weights or an ONNX graph here."
            )
        super().__init__(file, "TensorRT engine")
        self._device = device
        self._stream = Stream(device)
        with torch.cuda.device(device):  # TensorRT computes on the current one
            engine = self._opened(tensorrt, file)
            self._engine = engine
            self._context = engine.create_execution_context()
        if self._context is None:
            raise ValueError(
                f"Expected the device to hold {str(file)!r} at work "
                f"({engine.device_memory_size_v2 / 2**30:.2f}G), but it is full. "
                "Close other programs, or build the engine for smaller sizes."
            )
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        mode = tensorrt.TensorIOMode.OUTPUT
        self._outputs = [n for n in names if engine.get_tensor_mode(n) == mode]
        self._types = {n: _TYPES[engine.get_tensor_dtype(n).name] for n in names}
        self.input_channels = engine.get_tensor_shape("input")[1]
        if "prev_feat" in names:
            self.feature_channels = engine.get_tensor_shape("prev_feat")[1]
        self._scale_of(file)

    def _opened(self, tensorrt: ModuleType, file: Path) -> Any:
        """Returns the engine of a file."""
        log = tensorrt.Logger(tensorrt.Logger.WARNING)
        try:
            runtime = start_tensorrt(tensorrt, "Runtime", log)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        engine = runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is None:
            raise ValueError(
                f"Expected {str(file)!r} to be an engine of this GPU and of TensorRT "
                f"{tensorrt.__version__}, but it is not. Build it again here."
            )
        return engine

    def _scale_of(self, file: Path) -> None:
        shapes = self._engine.get_tensor_profile_shape("input", 0)
        smallest, largest = shapes[0], shapes[2]
        self.bytes_per_pixel = 0.0  # the context holds what it needs already
        self.largest = largest[2], largest[3]
        self.static = tuple(smallest) == tuple(largest)
        self._context.set_input_shape("input", smallest)
        if self.feature_channels is not None:
            shape = (smallest[0], self.feature_channels, *smallest[2:])
            self._context.set_input_shape("prev_feat", shape)
        self.scale = self._context.get_tensor_shape("output")[2] // smallest[2]
        if self.scale < 1:
            raise ValueError(
                f"Expected {str(file)!r} to upscale by a whole number, but got less "
                "rows than went in. Build it again."
            )

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        with self._stream.current():
            return self._run(inputs)

    def _run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        held = {}
        for name, tensor in inputs.items():
            held[name] = tensor.to(self._device, self._types[name]).contiguous()
            if not self._context.set_input_shape(name, tuple(tensor.shape)):
                raise ValueError(
                    f"Expected a size inside the engine's shapes, but got "
                    f"{tuple(tensor.shape)} for {name}. Build it with wider shapes."
                )
            self._context.set_tensor_address(name, held[name].data_ptr())
        results = []
        for name in sorted(self._outputs, key=lambda n: n != "output"):
            shape = tuple(self._context.get_tensor_shape(name))
            made = torch.empty(shape, dtype=self._types[name], device=self._device)
            self._context.set_tensor_address(name, made.data_ptr())
            results.append(made)
        if not self._context.execute_async_v3(self._stream.handle):
            free = torch.cuda.mem_get_info(self._device)[0]
            raise RuntimeError(
                "TensorRT did not run the engine; its log says why "
                f"({free / 2**30:.2f}G are free)"
            )
        return results
