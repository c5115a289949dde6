"""Other networks: published PSNR-Y with its sources, and how spandrel builds them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paragon_archs.archs import create, variants
from paragon_archs.checkpoint import load_model
from paragon_archs.weights import available, resolve

# Networks of spandrel for comparison: module, class, arguments without the scale, and
# the name of the scale's argument.
PEERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "compact": ("Compact", "Compact", {}, "upscale"),
    "span": ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3}, "upscale"),
    "safmn": ("SAFMN", "SAFMN", {"dim": 36, "n_blocks": 8}, "upscaling_factor"),
    "seemore_t": (
        "SeemoRe",
        "SeemoRe",
        {
            "embedding_dim": 36,
            "num_experts": 3,
            "num_layers": 6,
            "lr_space": "exp",
            "recursive": 2,
            "global_kernel_size": 11,
        },
        "scale",
    ),
    "realplksr": ("PLKSR", "RealPLKSR", {}, "upscaling_factor"),
    "swinir_light": (
        "SwinIR",
        "SwinIR",
        {
            "img_size": 64,
            "window_size": 8,
            "depths": [6, 6, 6, 6],
            "embed_dim": 60,
            "num_heads": [6, 6, 6, 6],
            "mlp_ratio": 2,
            "upsampler": "pixelshuffledirect",
        },
        "upscale",
    ),
}

SETS = ("Set5", "Set14", "B100", "Urban100")
SOURCES = {
    "S": "SAFMN's figs/efficient_sr.png",
    "M": "SeemoRe's figures/main_table.png",
    "N": "torchSR's README",
    "O": "Omni-SR's result.tex",
    "W": "SwinIR's figs/lightweight_image_sr.png",
    "P": "ParagonSR2's README, through pyiqa, protocol not stated",
    "F": "FusionSR's README, its own table: HR, LR and bicubic files mixed",
}


@dataclass(frozen=True)
class Peer:
    """One line of a published table.

    Attributes:
        name: What its authors call it.
        scale: Upscaling factor.
        parameters: Number of weights as published; empty for a filter.
        figures: PSNR-Y in dB on each of `SETS`, None where nobody published it.
        source: A key of `SOURCES`.
        network: Its name in `PEERS` where spandrel can build it, so
            that its speed can be measured here with random weights.
    """

    name: str
    scale: int
    parameters: str
    figures: tuple[float | None, float | None, float | None, float | None]
    source: str
    network: str = ""


PUBLISHED = (
    Peer("bicubic, published", 2, "", (33.66, 30.24, 29.56, 26.88), "S"),
    Peer("ESPCN", 2, "21 K", (36.83, 32.40, 31.29, 29.48), "S"),
    Peer("FSRCNN", 2, "12 K", (37.00, 32.63, 31.53, 29.88), "S"),
    Peer("NinaSR-b0", 2, "0.10 M", (37.72, 33.24, 31.97, 31.33), "N"),
    Peer("SeemoRe-T", 2, "220 K", (38.06, 33.65, 32.23, 32.22), "M", "seemore_t"),
    Peer("SAFMN", 2, "228 K", (38.00, 33.54, 32.16, 31.84), "S", "safmn"),
    Peer("IMDN", 2, "694 K", (38.00, 33.63, 32.19, 32.17), "M"),
    Peer("EDSR-baseline", 2, "1370 K", (37.99, 33.57, 32.16, 31.98), "S"),
    Peer("SwinIR-light", 2, "878 K", (38.14, 33.86, 32.31, 32.76), "W", "swinir_light"),
    Peer("ParagonSR2 realtime", 2, "17 K", (None, None, None, 27.56), "P"),
    Peer("ParagonSR2 stream", 2, "110 K", (None, None, None, 28.23), "P"),
    Peer("ParagonSR2 photo", 2, "745 K", (None, None, None, 30.15), "P"),
    Peer("bicubic, published", 4, "", (28.42, 26.00, 25.96, 23.14), "S"),
    Peer("ESPCN", 4, "25 K", (30.52, 27.42, 26.87, 24.39), "S"),
    Peer("FSRCNN", 4, "12 K", (30.71, 27.59, 26.98, 24.62), "S"),
    Peer("NinaSR-b0", 4, "0.10 M", (31.77, 28.28, 27.36, 25.45), "N"),
    Peer("SeemoRe-T", 4, "232 K", (32.31, 28.72, 27.65, 26.23), "M", "seemore_t"),
    Peer("SAFMN", 4, "240 K", (32.18, 28.60, 27.58, 25.97), "S", "safmn"),
    Peer("IMDN", 4, "715 K", (32.21, 28.58, 27.56, 26.04), "S"),
    Peer("EDSR-baseline", 4, "1518 K", (32.09, 28.58, 27.57, 26.04), "S"),
    Peer("SwinIR-light", 4, "897 K", (32.44, 28.77, 27.69, 26.47), "W", "swinir_light"),
    Peer("FusionSR", 4, "3.98 M", (25.15, 23.53, 24.54, 21.59), "F"),
)


def published(scale: int) -> list[Peer]:
    """Returns the lines of `PUBLISHED` at a scale."""
    return [peer for peer in PUBLISHED if peer.scale == scale]


def side_by_side(
    means: Sequence[dict[str, Any]],
    parameters: dict[str, int],
    fast: dict[tuple[str, int], float],
    scale: int,
) -> str:
    """Returns a Markdown table: models down, test sets across, peers beneath.

    Args:
        means: Rows of `quality.averages` with `psnr_y`.
        parameters: Number of weights by model.
        fast: Output megapixels per second by (model, scale); may be empty.
        scale: Upscaling factor of the table.
    """
    rows = [row for row in means if row["scale"] == scale]
    sets = list(dict.fromkeys([*(row["set"] for row in rows), *SETS]))
    head = ["model", "parameters", *sets, *(["MP/s"] if fast else []), "from"]
    lines = [
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 2) + " --- |",
    ]

    def line(
        name: str, count: str, figures: dict[str, float | None], source: str
    ) -> str:
        values = [figures.get(one) for one in sets]
        cells = ["-" if v is None else f"{v:.2f}" for v in values]
        if fast:
            speed = fast.get((name, scale))
            cells.append("-" if speed is None else f"{speed:.2f}")
        return f"| {' | '.join([name, count or '-', *cells, source])} |"

    for name in dict.fromkeys(row["model"] for row in rows):
        figures = {r["set"]: r.get("psnr_y") for r in rows if r["model"] == name}
        count = parameters.get(name, 0)
        lines.append(line(name, f"{count:,}" if count else "", figures, "here"))
    for peer in published(scale):
        known = dict[str, float | None](zip(SETS, peer.figures, strict=True))
        lines.append(line(peer.name, peer.parameters, known, peer.source))
    used = dict.fromkeys(peer.source for peer in published(scale))
    sources = "; ".join(f"{key}: {SOURCES[key]}" for key in used)
    return "\n".join(lines) + f"\n\nPSNR-Y in dB. Published figures from {sources}.\n"


def build(name: str, scale: int) -> nn.Module:
    """Returns a network: a variant of ours, a peer, or what a weight file holds.

    Without a file the weights are random, those of a LayerScale and of zero starts
    too, so that every part of the network has something to compute.

    Raises:
        ValueError: for an unknown name.
    """
    torch.manual_seed(0)
    if name in PEERS:
        module, kind, arguments, factor = PEERS[name]
        found = importlib.import_module(f"spandrel.architectures.{module}")
        return getattr(found, kind)(**arguments, **{factor: scale}).eval()
    if Path(name).suffix or name in available():
        return load_model(resolve(name)).model
    if name not in variants():
        raise ValueError(
            f"Expected a network to be a variant, one of {', '.join(PEERS)}, or a "
            f"weight file, but got {name!r}. `paragon variants` lists the variants."
        )
    model = create(name, scale).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith(("gamma", "residual_scale")):
                value.copy_(0.3 + 0.1 * torch.rand_like(value))
    return model
