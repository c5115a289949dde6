"""What runs a network of this pack on a CPU: torch, onnxruntime or OpenVINO.

Each is called as the network is, (B, C, H, W) to (B, C, H * scale, W * scale): torch's
is the deploy form, the others are graphs of the same weights, exported once and checked
against torch, that wait in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from .. import __version__
from ..export import export_onnx
from ..loaders import ARCHITECTURES, Reading
from ..utils.files import atomic_write, cache_folder, config_folder
from .backends import GraphModel, load_graph

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "onnxruntime", "openvino")

Descriptor = ImageModelDescriptor[nn.Module]
Call = Callable[[Tensor], Tensor]

# Variant -> what is faster than torch by a tenth or more (docs/benchmarks.md), the
# fastest first.
_FASTER: dict[str, tuple[str, ...]] = {
    "paragonsr2_stream": ("openvino", "onnxruntime"),
    "paragonsr2_photo": ("openvino",),
    "paragonsr2_pro": ("openvino",),
    "resshuffle": ("openvino",),
}


def pick_backend(
    name: str, model: Descriptor | GraphModel, device: torch.device, dtype: torch.dtype
) -> str:
    """Returns the backend that `name` means for a network.

    `auto` takes a graph where one waits in the cache and its runtime is installed and
    was measured to be faster than torch.

    Raises:
        ValueError: for an unknown name, or what the backend cannot run.
    """
    if name not in BACKENDS:
        raise ValueError(
            f"Expected the backend to be one of {', '.join(BACKENDS)}, but got "
            f"{name!r}. Choose one of these."
        )
    if name == "torch" or isinstance(model, GraphModel):
        return "torch"
    suits = device.type == "cpu" and dtype == torch.float32
    variant = variant_of(model.model) if suits else None
    if name != "auto":
        if variant is not None:
            return name
        raise ValueError(
            f"Expected a network of this pack, on the CPU and in fp32, for the backend "
            f"{name!r}, but got {model.architecture.name} on {device.type} in {dtype}. "
            "Use --backend auto."
        )
    for backend in faster_than_torch().get(variant or "", ()):
        if importlib.util.find_spec(backend) and graph_file(model).is_file():
            return backend
    return "torch"


def variant_of(network: nn.Module) -> str | None:
    """Returns the variant of a network of this pack, "" for none; None of others."""
    for architecture in (kind() for kind in ARCHITECTURES):
        if architecture.id == type(network).__name__:
            arguments = dict(getattr(network, "hyperparameters", {}))
            return architecture.variant(Reading(arguments)) or ""
    return None


def faster_than_torch() -> dict[str, Sequence[str]]:
    """Returns, by variant, the backends that `auto` prefers: as learned, as shipped."""
    try:
        learned = json.loads(_learned_file().read_text())
        return {**_FASTER, **{str(k): [*map(str, v)] for k, v in learned.items()}}
    except FileNotFoundError:
        return dict(_FASTER)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s is left out: %s", _learned_file(), error)
        return dict(_FASTER)


def learn(found: Mapping[str, Sequence[str]]) -> Path:
    """Keeps what is faster than torch on this machine, by variant, for `auto`.

    Returns:
        The file, to which `found` was added.
    """
    file = _learned_file()
    before: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        before = dict(json.loads(file.read_text()))
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps({**before, **found}, indent=2) + "\n")
    return file


def _learned_file() -> Path:
    return config_folder() / "backends.json"


def open_backend(name: str, model: Descriptor) -> Call | None:
    """Returns what runs a network in a backend; None for torch, the network itself."""
    if name == "torch":
        return None
    file = graph_file(model)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        logger.info("exporting the network, once: %s", file)
        export_onnx(model.model, file, in_chans=model.input_channels)
    return load_graph(file, torch.device("cpu"), ("cpu",), name == "openvino")


def graph_file(model: Descriptor) -> Path:
    """Returns where the graph of a network is kept; it may not exist yet."""
    arguments = getattr(model.model, "hyperparameters", {})
    name = f"{model.architecture.id} {json.dumps(arguments, default=str)} {__version__}"
    made_of = f"{name} {weights_digest(model.model)}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    return cache_folder() / "graphs" / f"{digest[:32]}.onnx"


def weights_digest(network: nn.Module) -> str:
    """Returns the digest of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
