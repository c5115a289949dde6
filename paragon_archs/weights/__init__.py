"""Small trained models that ship with the pack, by name; cards lie beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from ..utils.nearest import did_you_mean

FOLDER = Path(__file__).parent

# Scale -> what `paragon upscale` uses when nothing is asked for.
DEFAULTS = {2: "paragonsr2_realtime_x2", 4: "paragonsr2_realtime_x4"}
# The same for JPEG files.
JPEG_DEFAULTS = {
    2: "paragonsr2_realtime_x2_jpeg",
    4: "paragonsr2_realtime_x4_jpeg",
}


def available() -> dict[str, Path]:
    """Returns the shipped models: name -> safetensors file, sorted by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def card(name: str) -> dict[str, Any]:
    """Returns the front matter of a shipped model's card.

    Its keys: `name`, `architecture`, `scale`, `parameters`, `made_for`, `degradation`,
    `psnr_y` (test set -> dB), `mp_per_s` (output megapixels a second on one CPU
    thread), `license`.

    Raises:
        KeyError: when no such model ships.
        ValueError: when the card has no front matter.
    """
    text = available()[name].with_suffix(".md").read_text(encoding="utf-8")
    start, matter, *_ = text.split("---\n", 2) if "---\n" in text else ("?", "")
    if start:
        raise ValueError(
            f"Expected the card of {name} to start with front matter, but got "
            f"{text[:20]!r}. Put its YAML between two lines of `---`."
        )
    return yaml.safe_load(matter)


def default(scale: int = 4, jpeg: bool = False) -> str:
    """Returns the name of the shipped model for a scale.

    Args:
        scale: Upscaling factor.
        jpeg: Whether it is for JPEG files.

    Raises:
        ValueError: when none ships for it.
    """
    if scale not in DEFAULTS:
        scales = ", ".join(map(str, DEFAULTS))
        raise ValueError(
            f"Expected a scale that a shipped model has ({scales}), but got {scale!r}. "
            "Give a weight file of that scale."
        )
    return (JPEG_DEFAULTS if jpeg else DEFAULTS)[scale]


def resolve(model: str | Path) -> Path:
    """Returns the file of a model: a path that exists, or the name of a shipped one.

    `~` is the home folder, whoever did not expand it.

    Raises:
        FileNotFoundError: when it is neither.
        ValueError: when it is a folder, a pipe or a device.
    """
    path = Path(os.path.expanduser(model))
    if path.is_file():
        return path
    shipped = available()
    if str(model) in shipped:
        return shipped[str(model)]
    if path.exists():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(
            f"Expected a weight file or the name of a shipped model, but got "
            f"{str(model)!r}, {kind}. Name the file itself."
        )
    hint = did_you_mean(str(model), shipped, f"There are {', '.join(shipped)}.")
    raise FileNotFoundError(
        f"Expected a weight file or the name of a shipped model, but got "
        f"{str(model)!r}. {hint}"
    )
