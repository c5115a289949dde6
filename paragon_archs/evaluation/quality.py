"""How close methods come to the original: upscale, measure, time."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import find_architecture, load_model
from ..deploy import deploy_model
from ..utils.progress import task
from ..utils.resize import imresize
from .measures import quantize, shave
from .protocols import (
    Protocol,
    TestSet,
    bicubic_of_luma,
    is_stored_gray,
)
from .tables import Table

BICUBIC_Y = "bicubic (Y only)"


@dataclass
class Method:
    """Something that upscales.

    Attributes:
        name: What the tables call it.
        scale: Its factor.
        parameters: Number of weights, 0 for a filter.
        upscale: LR (1, 3, H, W) in [0, 1] -> (1, 3, H * s, W * s).
        digest: What a resumed table checks, so that another file of the same name is
            not mixed in.
    """

    name: str
    scale: int
    parameters: int
    upscale: Callable[[Tensor], Tensor]
    digest: str = ""


def bicubic(scale: int) -> Method:
    """MATLAB's bicubic on R, G and B."""
    return Method("bicubic", scale, 0, lambda low: imresize(low, scale))


def from_file(path: str | Path, device: str = "cpu") -> Method:
    """Opens a weight file of this pack or of spandrel; its scale comes from within."""
    descriptor = load_model(path, device)
    if descriptor.input_channels != 3 or descriptor.output_channels != 3:
        raise ValueError(
            f"Expected a network from RGB to RGB, but {str(path)!r} goes from "
            f"{descriptor.input_channels} to {descriptor.output_channels} channels. "
            "Leave it out."
        )
    model = descriptor.model

    # The deploy form computes the same and is what users run; a network that needs
    # certain sizes goes through its descriptor, which pads and crops.
    ours = find_architecture(model.state_dict()) is not None
    free = descriptor.size_requirements.none
    run = deploy_model(model) if ours and free else descriptor

    def upscale(low: Tensor) -> Tensor:
        return run(low.to(descriptor.device)).float().cpu()

    return Method(
        name=Path(path).stem,
        scale=descriptor.scale,
        parameters=sum(p.numel() for p in model.parameters()),
        upscale=upscale,
        digest=hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
    )


def from_network(name: str, scale: int, network: nn.Module, device: str) -> Method:
    """Returns a method of a network that is in memory, RGB to RGB."""
    network = network.to(device)

    def upscale(low: Tensor) -> Tensor:
        return network(low.to(device)).float().cpu()

    count = sum(p.numel() for p in network.parameters())
    return Method(name, scale, count, upscale)


def fill(
    table: Table,
    sets: Sequence[TestSet],
    methods: Sequence[Method],
    protocol: Protocol,
    metrics: dict[str, Callable[[Tensor, Tensor], float]],
) -> list[str]:
    """Measures what the table lacks; returns a line for each image that failed."""
    broken: list[str] = []
    work = [
        (one, index, scale)
        for one in sets
        for scale in sorted({m.scale for m in methods})
        for index in range(len(one.images))
    ]
    with task("measure", len(work), "image") as counted:
        for one, index, scale in work:
            fitting = [m for m in methods if m.scale == scale]
            try:
                if _fill_image(table, one, index, fitting, protocol, metrics):
                    table.save()
            except ValueError as error:
                broken.append(f"{one.images[index]}: {error}")
            counted.advance()
    return broken


def _fill_image(
    table: Table,
    one: TestSet,
    index: int,
    methods: Sequence[Method],
    protocol: Protocol,
    metrics: dict[str, Callable[[Tensor, Tensor], float]],
) -> bool:
    """Measures methods of one scale on one image; returns whether rows were added."""
    file, scale = one.images[index], methods[0].scale
    missing = [m for m in methods if not table.has(one.name, scale, m.name, file.name)]
    if not missing:
        return False
    low, high = one.pair(index, scale, protocol)

    def add(name: str, found: dict[str, float]) -> None:
        key = {"set": one.name, "scale": scale, "model": name, "image": file.name}
        table.rows.append({**key, **found})

    for m in missing:
        add(m.name, scores(m, low, high, protocol, metrics))
        if m.name == "bicubic" and protocol.name == "standard" and one.jpeg is None:
            add(BICUBIC_Y, bicubic_of_luma(high, scale, is_stored_gray(file)))
    return True


def upscaled(method: Method, low: Tensor) -> Tensor:
    """Returns the 8-bit answer (3, H, W) in [0, 255], float64."""
    with torch.inference_mode():
        return quantize(method.upscale(low[None].float() / 255)[0])


def scores(
    method: Method,
    low: Tensor,
    high: Tensor,
    protocol: Protocol,
    metrics: dict[str, Callable[[Tensor, Tensor], float]],
) -> dict[str, float]:
    """Returns the protocol's measures and `metrics` of a method on one pair."""
    out, reference = upscaled(method, low), high.double()
    border = method.scale if protocol.border else 0
    a, b = shave(out, border), shave(reference, border)
    found = {name: measure(a, b) for name, measure in protocol.measures.items()}
    return found | {name: measure(out, reference) for name, measure in metrics.items()}


def speeds(methods: Sequence[Method], side: int, rounds: int) -> dict[str, float]:
    """Returns output megapixels per second of each method, the median of rounds.

    They take turns within a round, so that a busy machine slows all of them alike:
    the ratios hold better than the figures.

    Args:
        methods: What to measure, all on one device.
        side: Side of the square LR image in pixels.
        rounds: Measurements of each, after one that does not count.
    """
    low = torch.rand(1, 3, side, side)
    seconds: dict[str, list[float]] = {c.name: [] for c in methods}
    for turn in range(rounds + 1):
        for c in methods:
            begin = time.perf_counter()
            with torch.inference_mode():
                c.upscale(low)  # answers on the CPU, so the device has finished
            if turn:
                seconds[c.name].append(time.perf_counter() - begin)
    return {
        c.name: (side * c.scale) ** 2 / 1e6 / statistics.median(seconds[c.name])
        for c in methods
    }
