"""ONNX graphs in OpenVINO, on the CPU."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..utils.optional import need
from .graph_model import GraphModel


@functools.cache
def _core(openvino: Any) -> Any:
    """Returns the process's own core, which is never released.

    The first compilation gives its thread a signal stack, and the core's release takes
    that memory back from any thread: the next signal then kills the process.
    """
    return openvino.Core()


class OpenVINOModel(GraphModel):
    """An ONNX graph in OpenVINO.

    Args:
        file: The graph.
        precision: That it computes in, `f32`, `bf16` or `f16`; in and out stay float32.

    Raises:
        FileNotFoundError: when the file does not exist.
        ValueError: when it is no graph for images of any size.
        ImportError: when openvino is missing.
    """

    def __init__(self, file: Path, precision: str = "f32") -> None:
        openvino = need("openvino", "its backend", "paragon-archs[openvino]")
        super().__init__(file, "ONNX graph")
        self._core: Any = _core(openvino)
        self._precision = precision
        try:
            self._graph: Any = self._core.read_model(str(file))
        except RuntimeError as error:
            raise ValueError(
                f"Expected {str(file)!r} to be an ONNX graph, but OpenVINO cannot "
                "read it. Export it again."
            ) from error
        shapes = {
            entry.any_name: [
                side.get_length() if side.is_static else None
                for side in entry.partial_shape
            ]
            for entry in self._graph.inputs
        }
        self._dtypes = {
            entry.any_name: entry.element_type.to_dtype()
            for entry in self._graph.inputs
        }
        info = self._graph.get_rt_info()
        notes = info["framework"] if "framework" in info else {}
        self._read(shapes, {name: note.astype(str) for name, note in notes.items()})
        self._lock = threading.Lock()  # a request runs one picture at a time
        self._any = self._request(self._graph)
        self._sized: Any = None
        self._sizes: dict[str, list[int]] = {}
        self._measure(file)

    def _request(self, graph: Any) -> Any:
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # others may compute on the core as well
        }
        return self._core.compile_model(graph, "CPU", settings).create_infer_request()

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        tensors = self._named(inputs)
        sizes = {name: list(x.shape) for name, x in tensors.items()}
        arrays = {
            name: x.float().cpu().contiguous().numpy().astype(self._dtypes[name])
            for name, x in tensors.items()
        }
        with self._lock:
            results = self._request_for(sizes).infer(arrays, share_inputs=True)
            made = [torch.from_numpy(result).float() for result in results.values()]
        return [result.to(inputs["input"].device) for result in made]

    def _request_for(self, sizes: dict[str, list[int]]) -> Any:
        """Returns what runs these sizes: made for them from the second time on.

        Steps for one size are faster, and take a tenth of a second to make.
        """
        if sizes != self._sizes:
            self._sizes, self._sized = sizes, None
            return self._any
        if self._sized is None:
            graph = self._graph.clone()
            graph.reshape(sizes)
            self._sized = self._request(graph)
        return self._sized
