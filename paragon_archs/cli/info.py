"""`paragon info MODEL`: what a weight file holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .common import EXIT_DONE, Parser, add_json, execute, parser, print_json
from .startup import load_spandrel

# spandrel's ModelTiling, by name.
_TILES = {
    "SUPPORTED": "same picture as the whole image, with a margin",
    "DISCOURAGED": "change the picture: whole-image statistics",
    "INTERNAL": "handled by the network itself",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints architecture, variant, form, scale, channels, size and hyperparameters."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "info",
        "Prints what a weight file holds; everything is read from its tensors.",
        "paragon info 4xParagonSR_S.safetensors",
        "paragon info paragonsr2_stream_x2 --json",
    )
    arguments.add_argument(
        "file",
        help="weight file (.safetensors, .pth, .pth.tar), .onnx graph or shipped model",
    )
    add_json(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    from ..weights import resolve

    found = describe(str(resolve(options.file)))
    if options.json:
        print_json(found)
        return EXIT_DONE
    rows = _rows(found)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return EXIT_DONE


def describe(file: str) -> dict[str, object]:
    """Returns what a weight file or a graph holds, as `--json` prints it."""
    if Path(file).suffix.lower() == ".onnx":
        return _graph(Path(file))
    load_spandrel()
    from ..checkpoint import (
        find_architecture,
        load_model,
        read_metadata,
        read_state_dict,
    )

    state = read_state_dict(file)
    descriptor = load_model(file)
    architecture = find_architecture(state)
    found: dict[str, object] = {"architecture": descriptor.architecture.name}
    assumed: dict[str, str] = {}
    if architecture is not None:
        reading = architecture.inspect(state)
        assumed = dict(reading.assumed)
        found |= {"variant": architecture.variant(reading), "form": reading.form}
    elif descriptor.tags:
        found["tags"] = list(descriptor.tags)
    return found | {
        "scale": descriptor.scale,
        "input_channels": descriptor.input_channels,
        "output_channels": descriptor.output_channels,
        "parameters": sum(p.numel() for p in descriptor.model.parameters()),
        "float16": descriptor.supports_half,
        "bfloat16": descriptor.supports_bfloat16,
        "tiles": descriptor.tiling.name.lower(),
        "hyperparameters": dict(getattr(descriptor.model, "hyperparameters", {})),
        "assumed": assumed,
        "metadata": dict(read_metadata(file)),
    }


def _graph(file: Path) -> dict[str, object]:
    """Returns an ONNX graph's metadata; the network's own where this pack wrote it."""
    import torch

    from ..inference.backends import load_graph
    from ..utils.optional import need

    graph = load_graph(file, torch.device("cpu"), ("cpu",))
    runtime = need("onnxruntime", "ONNX graphs", "paragon-archs[onnx]")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    try:
        hyperparameters = json.loads(metadata.pop("arguments", "{}"))
    except ValueError:  # another program's entry of that name
        hyperparameters = {}
    return {
        "architecture": metadata.pop("architecture", "unknown"),
        "form": "ONNX graph" if graph.feature_channels is None else "ONNX video graph",
        "scale": graph.scale,
        "input_channels": graph.input_channels,
        "hyperparameters": hyperparameters,
        "metadata": metadata,
    }


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns names and texts for people."""
    rows = [("architecture", found["architecture"])]
    if "variant" in found:
        rows.append(("variant", found["variant"] or "none (free hyperparameters)"))
    if "form" in found:
        rows.append(("form", found["form"]))
    if "tags" in found:
        rows.append(("tags", ", ".join(found["tags"])))
    rows.append(("scale", str(found["scale"])))
    channels = str(found["input_channels"])
    if "parameters" in found:
        rows += [
            ("channels", f"{channels} -> {found['output_channels']}"),
            ("parameters", f"{found['parameters']:,}"),
            ("float16", "yes" if found["float16"] else "no"),
            ("bfloat16", "yes" if found["bfloat16"] else "no"),
            ("tiles", _TILES[found["tiles"].upper()]),
        ]
    else:
        rows.append(("channels", channels))
    assumed = found.get("assumed", {})
    for name, value in found["hyperparameters"].items():
        why = assumed.get(name)
        rows.append((f"  {name}", f"{value}  (assumed: {why})" if why else str(value)))
    metadata = sorted(found["metadata"].items())
    return [*rows, *((f"metadata {k}", str(v)) for k, v in metadata)]
