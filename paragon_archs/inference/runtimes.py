"""What runs a network of this pack on a CPU: torch, onnxruntime or OpenVINO.

Each is called as the network is, (B, C, H, W) to (B, C, H * scale, W * scale): torch's
is the deploy form, the others are graphs of the same weights, exported once and checked
against torch, that wait in the cache. A graph for video carries features as well.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from .. import __version__
from ..checkpoint import save_model
from ..utils.files import atomic_write, cache_folder
from .backends import GraphModel, load_graph
from .measured import Measured, measured, network_name

logger = logging.getLogger(__name__)

BACKENDS: tuple[str, ...] = ("auto", "torch", "onnxruntime", "openvino")

EXPORT_SECONDS = 15
"""What a graph costs: a process that traces the network and compares it with torch."""

_EXPORTER = ("onnx", "onnxscript", "onnxruntime")

Descriptor = ImageModelDescriptor[nn.Module]


class ThreadGraph:
    """A graph that each thread opens for itself, for torch's number of threads there.

    Pictures side by side, in a thread each, so do not wait for each other.

    Args:
        open_: Opens the graph; called at once, and by each further thread.
    """

    def __init__(self, open_: Callable[[], GraphModel]) -> None:
        self._open = open_
        self._own = threading.local()
        self._own.graph = open_()

    def __call__(self, *inputs: Tensor | None, **settings: Any) -> Any:
        if not hasattr(self._own, "graph"):
            self._own.graph = self._open()
        graph: Any = self._own.graph
        return graph(*inputs, **settings)


def check_backend(
    name: str, model: Descriptor | GraphModel, device: torch.device, dtype: torch.dtype
) -> None:
    """Raises ValueError for an unknown backend, or a network that it cannot run."""
    if name not in BACKENDS:
        raise ValueError(
            f"Expected the backend to be one of {', '.join(BACKENDS)}, but got "
            f"{name!r}. Choose one of these."
        )
    anything = name in ("auto", "torch") or isinstance(model, GraphModel)
    if not anything and not _suits(model, device, dtype):
        raise ValueError(
            f"Expected a network of this pack, on the CPU and in fp32, for the backend "
            f"{name!r}, but got {model.architecture.name} on {device.type} in {dtype}. "
            "Use --backend auto."
        )


def _suits(
    model: Descriptor | GraphModel, device: torch.device, dtype: torch.dtype
) -> bool:
    if isinstance(model, GraphModel):
        return False
    plain = device.type == "cpu" and dtype == torch.float32
    return plain and network_name(model.model) is not None


def open_backend(
    name: str,
    model: Descriptor | GraphModel,
    device: torch.device,
    dtype: torch.dtype,
    video: bool = False,
) -> tuple[str, ThreadGraph | None]:
    """Opens what runs a network in a backend.

    `auto` takes a graph where one waits in the cache and its runtime is installed and
    was measured to be faster than torch; where that does not start, it takes torch.

    Args:
        name: One of `BACKENDS`.
        model: The network.
        device: Where it runs.
        dtype: Its dtype.
        video: Whether features are carried from frame to frame.

    Returns:
        The backend's name, and its graph; None for torch, the network itself.
    """
    if name == "torch" or not _suits(model, device, dtype):
        return "torch", None
    assert not isinstance(model, GraphModel)
    file = graph_file(model, video)
    if name != "auto":
        if not file.is_file():
            export_graph(model, video)
        return name, _load(file, name)
    for backend in _faster(_measured(model, video)) if file.is_file() else ():
        try:
            return backend, _load(file, backend)
        except Exception as error:  # of any runtime: torch goes on
            logger.warning("%s does not start, torch runs: %s", backend, error)
    return "torch", None


def _load(file: Path, backend: str) -> ThreadGraph:
    cpu, openvino = torch.device("cpu"), backend == "openvino"
    return ThreadGraph(lambda: load_graph(file, cpu, ("cpu",), openvino))


def _measured(model: Descriptor, video: bool) -> Measured:
    name, known = network_name(model.model) or "", measured()
    found = known.get(f"{name} video") if video else None
    return found or known.get(name, Measured(0, {}))


def _faster(found: Measured) -> Sequence[str]:
    """Returns the backends that are installed and faster than torch."""
    return [name for name in found.faster() if importlib.util.find_spec(name)]


def worth_exporting(
    model: Descriptor | GraphModel,
    device: torch.device,
    dtype: torch.dtype,
    pixels: float,
    video: bool = False,
) -> str | None:
    """Returns the backend by which so many pixels repay the export of a graph.

    None where there is no such, and where the graph waits in the cache already.
    """
    if not _suits(model, device, dtype) or isinstance(model, GraphModel):
        return None
    if graph_file(model, video).is_file():
        return None
    if not all(map(importlib.util.find_spec, _EXPORTER)):
        return None
    found = _measured(model, video)
    alone = pixels / 1e6 * found.seconds / torch.get_num_threads()
    for backend in _faster(found):
        if alone * (1 - found.shares[backend]) > EXPORT_SECONDS:
            return backend
    return None


def export_graph(model: Descriptor, video: bool = False) -> None:
    """Writes the graph of a network into the cache, once it agrees with torch.

    A process of its own does it, so that this one keeps none of the exporter's memory.

    Raises:
        ValueError: when it fails; nothing is left behind.
        OSError: when the cache cannot be written.
    """
    file = graph_file(model, video)
    file.parent.mkdir(parents=True, exist_ok=True)
    logger.info("exporting the network, once: %s", file)
    with tempfile.TemporaryDirectory() as folder:
        weights, made = Path(folder) / "network.safetensors", Path(folder) / file.name
        save_model(model.model, weights)
        command = ["export", str(weights), "-o", str(made), *["--video"] * video]
        done = subprocess.run(
            [sys.executable, "-m", "paragon_archs", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not made.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
            raise ValueError(
                f"Expected a graph of {model.architecture.name} for other runtimes, "
                f"but its export failed: {lines[-1]} Use --backend torch."
            )
        with atomic_write(file) as temporary:
            shutil.copyfile(made, temporary)


def graph_file(model: Descriptor, video: bool = False) -> Path:
    """Returns where the graph of a network is kept; it may not exist yet."""
    arguments = getattr(model.model, "hyperparameters", {})
    name = f"{model.architecture.id} {json.dumps(arguments, default=str)} {__version__}"
    made_of = f"{name} {weights_digest(model.model)}{' video' * video}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    return cache_folder() / "graphs" / f"{digest[:32]}.onnx"


def weights_digest(network: nn.Module) -> str:
    """Returns the digest of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
