"""`paragon benchmark quality`: PSNR, SSIM and pyiqa's measures over test sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation import iqa
from ..utils.allocator import keep_freed_memory
from ..utils.files import atomic_write, make_folder
from ..weights import resolve
from .benchmark import load
from .common import (
    EXIT_DONE,
    CommandError,
    Parser,
    add_json,
    execute,
    parser,
    print_json,
    report,
)
from .progress import add_progress, progress
from .startup import load_spandrel

if TYPE_CHECKING:
    from ..evaluation.protocols import Protocol, TestSet
    from ..evaluation.quality import Method
    from ..evaluation.tables import Table

SPEED_SIDE, SPEED_ROUNDS = 256, 5
# Name -> description in `evaluation.protocols.PROTOCOLS`, whose import takes torch.
PROTOCOLS = {
    "standard": "LR by MATLAB's bicubic, 8-bit rounding, crop = scale, Y of BT.601",
    "resshuffle": "LR by Pillow's bicubic, 8-bit rounding, no crop, RGB PSNR, gray "
    "SSIM",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures models over folders of images; writes tables and a picture."""
    keep_freed_memory()
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "benchmark quality",
        "Measures how close models come to the original over folders of HR images.",
        "paragon benchmark quality bicubic paragonsr2_realtime_x2 net_g.safetensors "
        "--hr Set5/HR Set14/HR --output results",
        "paragon benchmark quality net_g.safetensors --hr Set5/HR -o results --speed "
        "--pyiqa lpips dists",
    )
    arguments.add_argument(
        "models", nargs="+", help="weight files, names of shipped models, or bicubic"
    )
    arguments.add_argument(
        "--hr",
        nargs="+",
        required=True,
        metavar="[NAME=]FOLDER",
        help="folders of HR images, one per test set",
    )
    arguments.add_argument(
        "--lr",
        nargs="+",
        metavar="FOLDER",
        help="folders of LR images, one per --hr (default: LR is made by the protocol)",
    )
    arguments.add_argument(
        "--jpeg",
        nargs="+",
        type=int,
        default=(),
        metavar="QUALITY",
        help="also measure each set with its LR images saved as JPEG (4:2:0)",
    )
    arguments.add_argument("-o", "--output", required=True, help="folder for results")
    arguments.add_argument(
        "--scale", type=int, choices=(2, 3, 4, 8), help="only for bicubic alone"
    )
    _add_measures(arguments)
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    arguments.add_argument(
        "--resume", action="store_true", help="keep the rows that OUTPUT holds already"
    )
    add_json(arguments)
    add_progress(arguments)
    return arguments


def _add_measures(arguments: Parser) -> None:
    """Adds the flags of what is measured and shown."""
    arguments.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="standard",
        help="how LR is made and what is measured (standard): "
        + "; ".join(f"{name}: {about}" for name, about in PROTOCOLS.items()),
    )
    arguments.add_argument(
        "--pyiqa",
        nargs="*",
        choices=tuple(iqa.NAMES),
        metavar="METRIC",
        help=f"measures of pyiqa beside the protocol's: {', '.join(iqa.NAMES)}; "
        "all of them when none is named",
    )
    arguments.add_argument(
        "--crops",
        type=int,
        default=3,
        help="images per set in the picture and on the page (3)",
    )
    arguments.add_argument(
        "--speed",
        action="store_true",
        help="also measure output megapixels per second, and draw them against PSNR",
    )
    arguments.add_argument(
        "--published",
        action="store_true",
        help="also write table_x<scale>.md with published figures of other networks; "
        "with --speed, those that spandrel can build are timed and drawn too; needs a "
        "checkout",
    )


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    import torch

    from ..evaluation import protocols, quality, reports, tables

    protocol = protocols.PROTOCOLS[options.protocol]
    peers = _peers(options, protocol)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    sets = _sets(options)
    methods = _methods(options)
    metrics = {}
    if options.pyiqa is not None:
        metrics, failed = iqa.load_metrics(
            options.pyiqa or list(iqa.NAMES), options.device
        )
        for name, reason in failed.items():
            print(f"pyiqa {name} is not measured: {reason}.", file=sys.stderr)
    folder = Path(options.output)
    columns = sorted([*protocol.measures, *metrics])
    table = _table(options, folder, protocol, columns, methods)
    with progress(options):
        broken = quality.fill(table, sets, methods, protocol, metrics)
    means = tables.averages(table.rows)
    fast: dict[tuple[str, int], float] = {}
    if options.speed:
        fast = _speeds([*methods, *_timed_peers(peers, methods, options.device)])
        for row in means:
            if (row["model"], row["scale"]) in fast:
                row["mp_per_s"] = fast[row["model"], row["scale"]]
        known = _published_points(peers, fast)
        reports.charts(folder, means, known, f"LR of {SPEED_SIDE} x {SPEED_SIDE}")
    if means:
        parameters = {m.name: m.parameters for m in methods}
        text = _write_averages(folder, means, parameters, protocol)
        if not options.json:
            print(text)
        for scale in sorted({m.scale for m in methods} if peers else ()):
            text = peers.side_by_side(means, parameters, fast, scale)
            _write(folder / f"table_x{scale}.md", text)
            if not options.json:
                print(f"\n{text}")
    if options.json:
        print_json(means)
    if options.crops > 0 and not broken:
        reports.crop_pictures(folder, sets, methods, protocol, options.crops)
        reports.pages(folder, sets, methods, protocol, options.crops)
    if not options.json and not options.quiet:
        made = sorted(f.name for f in folder.iterdir() if f.name[0] != ".")
        print(f"wrote {folder}: {', '.join(made)}", file=sys.stderr)
    if broken:
        report(*broken)
        raise CommandError(f"{len(broken)} images could not be measured")
    return EXIT_DONE


def _table(
    options: argparse.Namespace,
    folder: Path,
    protocol: Protocol,
    columns: Sequence[str],
    methods: Sequence[Method],
) -> Table:
    """Opens the table of an output folder, which is new or to be resumed."""
    from ..evaluation.tables import Table

    table = Table(
        folder,
        {
            "protocol": protocol.name,
            "columns": columns,
            "low": "given" if options.lr else "made",
            "digests": {m.name: m.digest for m in methods},
        },
    )
    if options.resume:
        table.resume()
    elif (folder / "images.csv").exists():
        raise ValueError(
            f"Expected a new --output, but {str(folder)!r} holds results. Pass "
            "--resume to continue them, or choose another folder."
        )
    make_folder(folder)
    return table


def _write_averages(
    folder: Path,
    means: Sequence[dict[str, object]],
    parameters: dict[str, int],
    protocol: Protocol,
) -> str:
    """Writes the averages as CSV and Markdown; returns the Markdown table."""
    from ..evaluation import tables

    columns = list(dict.fromkeys(k for row in means for k in row))
    tables.write_csv(folder / "averages.csv", columns, means)
    text = tables.markdown(means, parameters)
    _write(folder / "averages.md", f"Protocol: {protocol.about}.\n\n{text}\n")
    return text


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def _sets(options: argparse.Namespace) -> list[TestSet]:
    """Opens the test sets of `--hr` and `--lr`."""
    from ..evaluation.protocols import TestSet

    if options.lr is not None and len(options.lr) != len(options.hr):
        raise ValueError(
            f"Expected as many folders after --lr as after --hr, {len(options.hr)}, "
            f"but got {len(options.lr)}. They are paired in order."
        )
    lows = options.lr or [None] * len(options.hr)
    sets = [TestSet.open(h, low) for h, low in zip(options.hr, lows, strict=True)]
    names = [s.name for s in sets]
    if len(set(names)) != len(names):
        raise ValueError(
            f"Expected test sets of different names, but got {', '.join(names)}. "
            "Name them: --hr NAME=FOLDER."
        )
    for quality in options.jpeg:
        if not 1 <= quality <= 100:
            raise ValueError(
                f"Expected --jpeg to be qualities from 1 to 100, but got {quality}. "
                "Phones write about 90, the web about 75."
            )
    saved = [s.as_jpeg(quality) for s in sets for quality in options.jpeg]
    return [*sets, *saved]


def _methods(options: argparse.Namespace) -> list[Method]:
    """Opens the models, and bicubic at their scales where it is asked for."""
    from ..evaluation.quality import bicubic, from_file

    opened = [
        from_file(resolve(model), options.device)
        for model in options.models
        if model != "bicubic"
    ]
    names = [m.name for m in opened]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(
            f"Expected models of different file names, but got {twice.pop()!r} twice. "
            "Rename one."
        )
    scales = sorted({m.scale for m in opened})
    if options.scale is not None:
        if scales not in ([], [options.scale]):
            raise ValueError(
                f"Expected --scale to be that of the models, {scales}, but got "
                f"{options.scale}. Leave it out: a model has its own."
            )
        scales = [options.scale]
    if "bicubic" not in options.models:
        return opened
    if not scales:
        raise ValueError(
            "Expected --scale when bicubic is measured alone, but got none. "
            "Give 2, 3, 4 or 8."
        )
    return [*map(bicubic, scales), *opened]


def _peers(options: argparse.Namespace, protocol: Protocol) -> Any:
    """Returns the module of published figures; None where nobody asks for them.

    Raises:
        ValueError: when they were measured in another protocol.
    """
    if not options.published:
        return None
    if protocol.name != "standard":
        raise ValueError(
            "Expected --published with the standard protocol, in which those figures "
            f"were measured, but got {protocol.name!r}. Leave one of the two out."
        )
    return load("benchmarks.peers")


def _speeds(methods: Sequence[Method]) -> dict[tuple[str, int], float]:
    """Returns output megapixels a second by (name, scale)."""
    from ..evaluation.quality import speeds

    fast = {}
    for scale in sorted({m.scale for m in methods}):
        members = [m for m in methods if m.scale == scale]
        figures = speeds(members, SPEED_SIDE, SPEED_ROUNDS)
        fast |= {(name, scale): value for name, value in figures.items()}
    return fast


def _timed_peers(peers: Any, methods: Sequence[Method], device: str) -> list[Method]:
    """Returns other networks with random weights, for their speed alone."""
    from ..evaluation.quality import from_network

    return [
        from_network(peer.name, scale, peers.build(peer.network, scale), device)
        for scale in sorted({m.scale for m in methods} if peers else ())
        for peer in peers.published(scale)
        if peer.network
    ]


def _published_points(
    peers: Any, fast: dict[tuple[str, int], float]
) -> dict[tuple[str, int], list[tuple[float, float, str]]]:
    """Returns (MP/s, published PSNR-Y, name) of timed peers by (set, scale)."""
    found: dict[tuple[str, int], list[tuple[float, float, str]]] = {}
    for peer in peers.PUBLISHED if peers else ():
        speed = fast.get((peer.name, peer.scale))
        for name, figure in zip(peers.SETS, peer.figures, strict=True):
            if speed is not None and figure is not None:
                key = (name, peer.scale)
                found.setdefault(key, []).append((speed, figure, peer.name))
    return found
