"""Exported graphs as networks: onnxruntime by provider, TensorRT engines."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from spandrel import SizeRequirements
from torch import Tensor

from ..utils.files import cache_folder
from ..utils.optional import need, start_tensorrt
from ..utils.weight_header import HeaderError, check_known
from ..weights import resolve

logger = logging.getLogger(__name__)

GRAPH_SUFFIXES = (".onnx", ".trt", ".engine")

# Name on the command line -> onnxruntime's name of the provider.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}


class GraphModel:
    """A graph that is called like a network; what an upscaler asks of a descriptor.

    Attributes:
        scale: Upscaling factor.
        input_channels: Channels of the image.
        feature_channels: Channels of `prev_feat` in a graph for video, else None.
        alpha: Share of `prev_feat` in its blend, where the graph records it.
        base_kernel: ParagonSR2's base path in a graph for video, where it is recorded.
        metadata: Metadata, sorted by name.
        digest: Of the file.
        size_requirements: None in graphs with dynamic sizes.
        bytes_per_pixel: What a pixel of the input takes at the most, where it is known.
        largest: Height and width that it takes at the most, None for any.
        static: Whether it takes that size alone.
        architecture: Its `name` and `id`.
        supports_half: Graphs take float32 alone.
        supports_bfloat16: Likewise.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.architecture = SimpleNamespace(name=name, id=name)
        self.size_requirements = SizeRequirements()
        self.supports_half = self.supports_bfloat16 = False
        self.scale = 0
        self.input_channels = 3
        self.feature_channels: int | None = None
        self.alpha: float | None = None
        self.base_kernel: str | None = None
        self.metadata: dict[str, str] = {}
        self.bytes_per_pixel: float | None = None
        self.largest: tuple[int, int] | None = None
        self.static = False
        self._picture = 0  # which of the results

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Runs the graph; returns the image, and the features of a video graph."""
        raise NotImplementedError

    def __call__(
        self,
        x: Tensor,
        feature_tap: bool = False,
        prev_feat: Tensor | None = None,
        alpha: float | None = None,
    ) -> Any:
        """Runs the graph on (B, C, H, W); `alpha` was fixed when it was exported."""
        inputs = {"input": x}
        if self.feature_channels is not None:
            if prev_feat is None:  # all zeros mean that there is no frame before
                shape = (x.shape[0], self.feature_channels, *x.shape[2:])
                prev_feat = x.new_zeros(shape)
            inputs["prev_feat"] = prev_feat
        results = self.run(inputs)
        return tuple(results[:2]) if feature_tap else results[self._picture]

    def _measure(self, file: Path) -> None:
        """Finds the image among the results, and the scale, by a run on a small one."""
        side = 16
        x = torch.zeros(1, self.input_channels, side, side)
        if self.feature_channels is None:
            results = self.run({"input": x})
            sizes = [
                r.shape[2] if r.ndim == 4 and r.shape[1] in (1, 3, 4) else 0
                for r in results
            ]
            self._picture = sizes.index(max(sizes))
        y = self(x)
        self.scale = y.shape[2] // side if y.ndim == 4 else 0
        if self.scale < 1 or y.shape[2] != self.scale * side:
            raise ValueError(
                f"Expected {str(file)!r} to upscale by a whole number, but got "
                f"{tuple(y.shape)} from {tuple(x.shape)}. Export it again."
            )


class OnnxModel(GraphModel):
    """An ONNX graph in onnxruntime.

    Args:
        file: The graph.
        device: Which of a provider's devices; without providers, which provider.
        providers: Names out of `PROVIDERS`, the preferred first; by default cuda on a
            cuda device where onnxruntime has it, then cpu.

    Raises:
        FileNotFoundError: when the file does not exist.
        ValueError: for a provider that is unknown, missing or does not start, or a
            graph with other inputs.
        ImportError: when onnxruntime is missing.
    """

    def __init__(
        self, file: Path, device: torch.device, providers: Sequence[str] = ()
    ) -> None:
        runtime = need("onnxruntime", "ONNX graphs", "onnxruntime")
        super().__init__(file, "ONNX graph")
        there = runtime.get_available_providers()
        names = _providers(there, device, providers)
        self._errors = (RuntimeError, ValueError, *_runtime_errors(runtime))
        options = [_options(name, device.index or 0) for name in names]
        try:
            self._session: Any = runtime.InferenceSession(
                str(file), providers=names, provider_options=options
            )
        except self._errors as error:
            raise ValueError(
                f"Expected {str(file)!r} to be an ONNX graph, but onnxruntime says: "
                f"{error}. Export it again."
            ) from error
        self._check_started(names[0], explicit=bool(providers))
        shapes = {i.name: i.shape for i in self._session.get_inputs()}
        self._inputs = list(shapes)
        self._dtypes = {
            i.name: np.float16 if i.type == "tensor(float16)" else np.float32
            for i in self._session.get_inputs()
        }
        image = shapes.get("input", next(iter(shapes.values())))
        if len(image) != 4 or any(isinstance(n, int) for n in image[2:]):
            raise ValueError(
                f"Expected a graph for images (B, C, H, W) of any size, but got "
                f"{image}. Export it without --static."
            )
        self.input_channels = image[1] if isinstance(image[1], int) else 3
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.metadata = dict(sorted(metadata.items()))
        if "bytes_per_pixel" in metadata:
            self.bytes_per_pixel = float(metadata["bytes_per_pixel"])
        if "prev_feat" in shapes:
            self.feature_channels = shapes["prev_feat"][1]
            if metadata.get("architecture") == "ParagonSR2":
                self.alpha = float(metadata["alpha"])
                self.base_kernel = json.loads(metadata["arguments"])["base_kernel"]
        self._measure(file)

    def _check_started(self, name: str, explicit: bool) -> None:
        """Finds out whether onnxruntime took another provider without a word."""
        if name in self._session.get_providers():
            return
        short: dict[str, str] = {v: k for k, v in PROVIDERS.items()}
        took = ", ".join(short.get(n) or n for n in self._session.get_providers())
        if not explicit:
            logger.warning("onnxruntime cannot start %s: on %s", short[name], took)
            return
        raise ValueError(
            f"Expected onnxruntime to start the provider {short[name]!r}, but it took "
            f"{took!r}. Check its driver and libraries (the lines above name what is "
            "missing), or choose another."
        )

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        device = inputs["input"].device
        if "input" not in self._inputs:  # graphs of others name it otherwise
            inputs = {self._inputs[0]: inputs["input"]}
        arrays = {
            k: v.float().cpu().numpy().astype(self._dtypes[k], copy=False)
            for k, v in inputs.items()
        }
        try:
            results = self._session.run(None, arrays)
        except self._errors as error:  # of classes that nobody else knows
            raise RuntimeError(f"onnxruntime: {error}") from error
        return [torch.from_numpy(np.asarray(r)).to(device).float() for r in results]


def _providers(
    there: Sequence[str], device: torch.device, wanted: Sequence[str]
) -> list[str]:
    """Returns onnxruntime's names of the providers to start, the preferred first."""
    usual = ("cuda", "cpu") if device.type == "cuda" else ("cpu",)
    names = []
    for provider in wanted or usual:
        name = PROVIDERS.get(provider)
        if name in there:
            names.append(name)
        elif wanted:
            known = [k for k, v in PROVIDERS.items() if v in there]
            raise ValueError(
                f"Expected the provider to be one that this onnxruntime has "
                f"({', '.join(known)}), but got {provider!r}. Install the "
                "onnxruntime package that holds it, or choose another."
            )
    # What TensorRT does not take of a graph should not leave the GPU.
    cuda = PROVIDERS["cuda"]
    if names[0] == PROVIDERS["tensorrt"] and cuda in there and cuda not in names:
        names.insert(1, cuda)
    return names


def _options(name: str, index: int) -> dict[str, Any]:
    """Returns a provider's options: its device, and where it keeps what it builds."""
    if name in (PROVIDERS["cpu"], PROVIDERS["coreml"]):
        return {}
    if name != PROVIDERS["tensorrt"]:
        return {"device_id": index}
    cache = cache_folder() / "tensorrt"
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "device_id": index,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
    }


def _runtime_errors(runtime: Any) -> tuple[type[Exception], ...]:
    """Returns onnxruntime's exceptions, which share no base of their own."""
    state = vars(runtime.capi.onnxruntime_pybind11_state)
    return tuple(
        kind
        for kind in state.values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )


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
        self._engine = engine
        with torch.cuda.device(device):
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
        with torch.cuda.device(self._device):  # TensorRT runs on the current one
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
        stream = torch.cuda.current_stream(self._device)
        if not self._context.execute_async_v3(stream.cuda_stream):
            free = torch.cuda.mem_get_info(self._device)[0]
            raise RuntimeError(
                "TensorRT did not run the engine; its log says why "
                f"({free / 2**30:.2f}G are free)"
            )
        stream.synchronize()
        return results


def load_graph(
    file: Path, device: torch.device, providers: Sequence[str] = ()
) -> GraphModel:
    """Opens an `.onnx`, `.trt` or `.engine` file."""
    file = resolve(file)
    try:
        check_known(file)
    except HeaderError as error:
        raise ValueError(
            f"Expected {str(file)!r} to be a graph, but it is {error}."
        ) from error
    if file.suffix.lower() == ".onnx":
        return OnnxModel(file, device, providers)
    return TensorRTModel(file, device)
