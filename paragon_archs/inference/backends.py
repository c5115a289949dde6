"""Exported graphs as networks: which file is what, and onnxruntime by provider."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..utils.files import cache_folder
from ..utils.oom import is_out_of_memory
from ..utils.optional import need
from ..utils.weight_header import HeaderError, check_known
from ..weights import resolve
from .graph_model import GraphModel
from .openvino_model import OpenVINOModel
from .streams import Stream
from .tensorrt_model import TensorRTModel

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


_ON_CUDA = (PROVIDERS["cuda"], PROVIDERS["tensorrt"])
_ONNX_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


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
        index = device.index or 0
        on_gpu = device.type == "cuda" and names[0] in _ON_CUDA
        self._device = torch.device("cuda", index) if on_gpu else torch.device("cpu")
        self._stream = Stream(self._device)
        options = [_options(name, index, self._stream.handle) for name in names]
        session = runtime.SessionOptions()
        session.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session: Any = runtime.InferenceSession(
                str(file), session, providers=names, provider_options=options
            )
        except self._errors as error:
            raise ValueError(
                f"Expected {str(file)!r} to be an ONNX graph, but onnxruntime says: "
                f"{error}. Export it again."
            ) from error
        self._check_started(names[0], explicit=bool(providers))
        # Other providers' devices are reached by way of the host.
        started = self._session.get_providers()[0]
        self._binds = started in (_ON_CUDA if on_gpu else (PROVIDERS["cpu"],))
        self._settings = runtime.RunOptions()
        if on_gpu:  # torch's streams wait for each other, the program does not
            self._settings.add_run_config_entry(
                "disable_synchronize_execution_providers", "1"
            )
        self._outputs: dict[str, tuple[int, int, torch.dtype]] | None = None
        shapes = {i.name: i.shape for i in self._session.get_inputs()}
        self._dtypes = {
            i.name: torch.float16 if i.type == "tensor(float16)" else torch.float32
            for i in self._session.get_inputs()
        }
        self._read(shapes, self._session.get_modelmeta().custom_metadata_map)
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

    def _take_shapes(self, results: Sequence[Tensor], side: int) -> None:
        found = {}
        for node, result in zip(self._session.get_outputs(), results, strict=True):
            factor = result.shape[2] // side if result.ndim == 4 else 0
            if result.shape[2:] != (factor * side, factor * side) or not factor:
                return
            if node.type not in _ONNX_TYPES:
                return
            found[node.name] = (result.shape[1], factor, _ONNX_TYPES[node.type])
        self._outputs = found

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        image = inputs["input"]
        inputs = self._named(inputs)
        here = (image.device.type, image.device.index or 0)
        near = here == (self._device.type, self._device.index or 0)
        if self._outputs is not None and self._binds and near:
            try:
                return self._bound(inputs, self._outputs)
            except self._errors as error:
                if is_out_of_memory(RuntimeError(str(error))):
                    raise RuntimeError(f"onnxruntime: {error}") from error
                # Of another shape than these, or the host will raise it once more.
                results = self._through_the_host(inputs, image.device)
                self._outputs = None
                return results
        return self._through_the_host(inputs, image.device)

    def _bound(
        self,
        inputs: dict[str, Tensor],
        outputs: dict[str, tuple[int, int, torch.dtype]],
    ) -> list[Tensor]:
        """Runs on torch's own memory and stream: nothing is copied or waited for."""
        batch, _, height, width = next(iter(inputs.values())).shape
        held, made = [], []
        with self._stream.current():
            binding = self._session.io_binding()
            for name, tensor in inputs.items():
                held.append(tensor.to(self._dtypes[name]).contiguous())
                binding.bind_input(name, *self._place_of(held[-1]))
            for name, (channels, factor, dtype) in outputs.items():
                shape = (batch, channels, factor * height, factor * width)
                made.append(torch.empty(shape, dtype=dtype, device=self._device))
                binding.bind_output(name, *self._place_of(made[-1]))
            self._session.run_with_iobinding(binding, self._settings)
        return [result.float() for result in made]

    def _place_of(self, tensor: Tensor) -> tuple[object, ...]:
        """Returns where a tensor lies, in onnxruntime's words."""
        kind = np.float16 if tensor.dtype == torch.float16 else np.float32
        index = self._device.index or 0
        shape = tuple(tensor.shape)
        return self._device.type, index, kind, shape, tensor.data_ptr()

    def _through_the_host(
        self, inputs: dict[str, Tensor], device: torch.device
    ) -> list[Tensor]:
        arrays = {k: v.to(self._dtypes[k]).cpu().numpy() for k, v in inputs.items()}
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


def _options(name: str, index: int, stream: int) -> dict[str, Any]:
    """Returns a provider's options: its device, and where it keeps what it builds."""
    if name in (PROVIDERS["cpu"], PROVIDERS["coreml"]):
        return {}
    if name not in _ON_CUDA:
        return {"device_id": index}
    options: dict[str, Any] = {"device_id": index}
    if stream:
        options["user_compute_stream"] = str(stream)
    if name == PROVIDERS["cuda"]:
        # The usual search tries every algorithm anew at each size of a folder.
        return {**options, "cudnn_conv_algo_search": "HEURISTIC"}
    cache = cache_folder() / "tensorrt"
    cache.mkdir(parents=True, exist_ok=True)
    return {
        **options,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
    }


def _runtime_errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Returns onnxruntime's exceptions, which share no base of their own."""
    state = vars(runtime.capi.onnxruntime_pybind11_state)
    return tuple(
        kind
        for kind in state.values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )


def load_graph(
    file: Path,
    device: torch.device,
    providers: Sequence[str] = (),
    openvino: bool = False,
) -> GraphModel:
    """Opens an `.onnx`, `.trt` or `.engine` file; OpenVINO takes the first as well."""
    file = resolve(file)
    try:
        check_known(file)
    except HeaderError as error:
        raise ValueError(
            f"Expected {str(file)!r} to be a graph, but it is {error}."
        ) from error
    if file.suffix.lower() == ".onnx":
        return OpenVINOModel(file) if openvino else OnnxModel(file, device, providers)
    return TensorRTModel(file, device)


__all__ = ["GRAPH_SUFFIXES", "PROVIDERS", "GraphModel", "OnnxModel", "load_graph"]
