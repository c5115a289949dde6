"""`paragon models`: what ships with the pack."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.files import atomic_write, make_folder
from ..weights import DEFAULTS, JPEG_DEFAULTS, available, card
from .common import (
    EXIT_DONE,
    Parser,
    add_json,
    execute,
    new_output,
    parser,
    print_json,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the shipped models, or copies their files to a folder."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "models",
        "Lists the models that ship with the pack; every command takes their names "
        "where it takes a weight file.",
        "paragon models",
        "paragon models --scale 2 --json",
        "paragon models paragonsr2_stream_x4 --copy ~/ComfyUI/models/upscale_models",
    )
    arguments.add_argument("models", nargs="*", help="names (all)")
    arguments.add_argument("--scale", type=int, help="only those of this factor")
    arguments.add_argument(
        "--copy", metavar="FOLDER", help="copy the weight files to a folder"
    )
    arguments.add_argument(
        "--overwrite", action="store_true", help="replace files in FOLDER"
    )
    add_json(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    files = available()
    unknown = [name for name in options.models if name not in files]
    if unknown:
        raise ValueError(
            f"Expected names of shipped models, {', '.join(files)}, but got "
            f"{unknown[0]!r}. `paragon models` lists them."
        )
    cards = [card(name) for name in options.models or files]
    cards = [c for c in cards if options.scale in (None, c["scale"])]
    if not cards:
        whose = ", ".join(options.models) or "a shipped model"
        raise ValueError(
            f"Expected --scale to be that of {whose}, but got {options.scale}. "
            "`paragon models` lists them."
        )
    rows = [{**c, "file": str(files[c["name"]])} for c in cards]
    for row in rows:
        row["bytes"] = files[row["name"]].stat().st_size
        row["default"] = row["name"] in DEFAULTS.values()
        row["default_for_jpeg"] = row["name"] in JPEG_DEFAULTS.values()
    if options.copy:
        copy([Path(row["file"]) for row in rows], options.copy, options.overwrite)
    elif options.json:
        print_json(rows)
    else:
        print(table(rows))
    return EXIT_DONE


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the models as a table for people."""
    sets = list(dict.fromkeys(s for row in rows for s in row["psnr_y"]))
    cells = [["model", "scale", "parameters", *sets, "MP/s", "size", "made for"]]
    for row in rows:
        psnr = [f"{row['psnr_y'][s]:.2f}" if s in row["psnr_y"] else "-" for s in sets]
        mark = " *" if row["default"] else " **" if row["default_for_jpeg"] else ""
        cells.append(
            [
                row["name"] + mark,
                f"x{row['scale']}",
                f"{row['parameters']:,}",
                *psnr,
                f"{row['mp_per_s']:.2f}",
                f"{row['bytes'] / 1e6:.2f} MB",
                row["made_for"],
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for one in cells:
        padded = [
            text.ljust(width) if index in (0, len(one) - 1) else text.rjust(width)
            for index, (text, width) in enumerate(zip(one, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(
        [
            *lines,
            "",
            f"{', '.join(sets)}: PSNR-Y in dB. MP/s: output megapixels a second on one "
            "CPU thread.",
            "* what `paragon upscale` takes at this scale when no model is named; "
            "** the same for JPEG files.",
        ]
    )


def copy(files: Sequence[Path], folder: str, overwrite: bool) -> None:
    """Copies weight files to a folder, made when missing.

    Raises:
        ValueError: when a file is there already and is not to be replaced.
    """
    place = Path(folder).expanduser()
    targets = [new_output(place / file.name, overwrite) for file in files]
    make_folder(place)
    for file, target in zip(files, targets, strict=True):
        with atomic_write(target) as temporary:
            shutil.copyfile(file, temporary)
        print(f"wrote {target}")
