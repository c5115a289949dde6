"""`paragon benchmark quality`: PSNR, SSIM and pyiqa's measures over test sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..evaluation import iqa
from ..evaluation.crops import crop_sheet, hardest_window
from ..evaluation.measures import luma, psnr, quantise, shave
from ..evaluation.peers import SETS, published, side_by_side
from ..evaluation.plots import Series, chart
from ..evaluation.quality import (
    PROTOCOLS,
    Contender,
    Protocol,
    Table,
    TestSet,
    averages,
    bicubic,
    bicubic_of_luma,
    from_file,
    is_stored_gray,
    markdown,
    speeds,
    write_csv,
)
from ..evaluation.speed import build
from ..utils.files import atomic_write
from ..weights import resolve
from .common import EXIT_DONE, CommandError, guarded, parser

SIDE, ZOOM = 64, 3  # of the crops in the picture
SPEED_SIDE, SPEED_ROUNDS = 256, 5
BICUBIC_Y = "bicubic (Y only)"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures models over folders of images; writes tables and a picture."""
    arguments = parser(
        "benchmark quality",
        "Measures how close models come to the original over folders of HR images.",
        "paragon benchmark quality bicubic paragonsr2_realtime_x2 net_g.safetensors "
        "--hr Set5/HR Set14/HR --output results",
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
    arguments.add_argument("-o", "--output", required=True, help="folder for results")
    arguments.add_argument(
        "--scale", type=int, choices=(2, 3, 4, 8), help="only for bicubic alone"
    )
    about = "; ".join(f"{p.name}: {p.about}" for p in PROTOCOLS.values())
    arguments.add_argument(
        "--protocol", choices=tuple(PROTOCOLS), default="standard", help=about
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
        "--crops", type=int, default=3, help="images per set in the picture (3)"
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
        "with --speed, those that spandrel can build are timed and drawn too",
    )
    arguments.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    arguments.add_argument(
        "--resume", action="store_true", help="keep the rows that OUTPUT holds already"
    )
    options = arguments.parse_args(argv)
    return guarded(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    protocol = PROTOCOLS[options.protocol]
    if options.published and protocol.name != "standard":
        raise ValueError(
            "Expected --published with the standard protocol, in which those figures "
            f"were measured, but got {protocol.name!r}. Leave one of the two out."
        )
    if options.threads is not None:
        torch.set_num_threads(options.threads)
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
    contenders = _contenders(options)
    metrics = {}
    if options.pyiqa is not None:
        metrics, failed = iqa.load_metrics(
            options.pyiqa or list(iqa.NAMES), options.device
        )
        for name, reason in failed.items():
            print(f"pyiqa {name} is not measured: {reason}.", file=sys.stderr)
    folder = Path(options.output)
    table = Table(
        folder,
        {
            "protocol": protocol.name,
            "columns": sorted([*protocol.measures, *metrics]),
            "low": "given" if options.lr else "made",
            "digests": {c.name: c.digest for c in contenders},
        },
    )
    if options.resume:
        table.resume()
    elif (folder / "images.csv").exists():
        raise ValueError(
            f"Expected a new --output, but {str(folder)!r} holds results. Pass "
            "--resume to continue them, or choose another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    broken = _fill(table, sets, contenders, protocol, metrics)
    means = averages(table.rows)
    fast: dict[tuple[str, int], float] = {}
    if options.speed:
        others = _peers(contenders, options.device) if options.published else []
        fast = _speeds([*contenders, *others])
        for row in means:
            if (row["model"], row["scale"]) in fast:
                row["mp_per_s"] = fast[row["model"], row["scale"]]
        _charts(folder, means, fast)
    if means:
        columns = list(dict.fromkeys(k for row in means for k in row))
        write_csv(folder / "averages.csv", columns, means)
        parameters = {c.name: c.parameters for c in contenders}
        text = markdown(means, parameters)
        with atomic_write(folder / "averages.md") as temporary:
            temporary.write_text(f"Protocol: {protocol.about}.\n\n{text}\n")
        print(text)
        for scale in sorted({c.scale for c in contenders} if options.published else ()):
            text = side_by_side(means, parameters, fast, scale)
            with atomic_write(folder / f"table_x{scale}.md") as temporary:
                temporary.write_text(text)
            print(f"\n{text}")
    if options.crops > 0 and not broken:
        _picture(folder, sets, contenders, protocol, options.crops)
    if broken:
        for line in broken:
            print(f"error: {line}", file=sys.stderr)
        raise CommandError(f"{len(broken)} images could not be measured")
    return EXIT_DONE


def _contenders(options: argparse.Namespace) -> list[Contender]:
    opened = [
        from_file(resolve(model), options.device)
        for model in options.models
        if model != "bicubic"
    ]
    names = [c.name for c in opened]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(
            f"Expected models of different file names, but got {twice.pop()!r} twice. "
            "Rename one."
        )
    scales = sorted({c.scale for c in opened})
    if options.scale is not None:
        if scales not in ([], [options.scale]):
            raise ValueError(
                f"Expected --scale to be that of the models, {scales}, but got "
                f"{options.scale}. Leave it out: models tell theirs."
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


def _fill(
    table: Table,
    sets: Sequence[TestSet],
    contenders: Sequence[Contender],
    protocol: Protocol,
    metrics: dict[str, Callable[[Tensor, Tensor], float]],
) -> list[str]:
    """Measures what the table lacks; returns a line for each image that failed."""
    broken: list[str] = []
    work = [
        (one, index, scale)
        for one in sets
        for scale in sorted({c.scale for c in contenders})
        for index in range(len(one.images))
    ]
    for one, index, scale in tqdm(work, unit="image", disable=None):
        image = one.images[index].name
        missing = [
            c
            for c in contenders
            if c.scale == scale and not table.has(one.name, scale, c.name, image)
        ]
        if not missing:
            continue
        key = {"set": one.name, "scale": scale}
        try:
            low, high = one.pair(index, scale, protocol)
            for c in missing:
                scores = _scores(c, low, high, protocol, metrics)
                table.rows.append({**key, "model": c.name, "image": image, **scores})
                if c.name == "bicubic" and protocol.name == "standard":
                    scores = bicubic_of_luma(
                        high, scale, is_stored_gray(one.images[index])
                    )
                    table.rows.append(
                        {**key, "model": BICUBIC_Y, "image": image, **scores}
                    )
        except ValueError as error:
            broken.append(f"{one.images[index]}: {error}")
            continue
        table.save()
    return broken


def _speeds(contenders: Sequence[Contender]) -> dict[tuple[str, int], float]:
    fast = {}
    for scale in sorted({c.scale for c in contenders}):
        members = [c for c in contenders if c.scale == scale]
        figures = speeds(members, SPEED_SIDE, SPEED_ROUNDS)
        fast |= {(name, scale): value for name, value in figures.items()}
    return fast


def _peers(contenders: Sequence[Contender], device: str) -> list[Contender]:
    """Other networks with random weights, for their speed alone."""
    found = []
    for scale in sorted({c.scale for c in contenders}):
        for peer in published(scale):
            if not peer.network:
                continue
            model = build(peer.network, scale).to(device)

            def upscale(low: Tensor, model: nn.Module = model) -> Tensor:
                return model(low.to(device)).float().cpu()

            count = sum(p.numel() for p in model.parameters())
            found.append(Contender(peer.name, scale, count, upscale))
    return found


def _charts(
    folder: Path,
    means: Sequence[dict[str, Any]],
    fast: dict[tuple[str, int], float],
) -> None:
    """Writes `chart_<set>_x<scale>.svg`: the first measure against the speed.

    Args:
        folder: Where to.
        means: Rows of averages with speeds.
        fast: Speeds by (model, scale); peers among them are drawn with what they
            published.
    """
    for key in dict.fromkeys((row["set"], row["scale"]) for row in means):
        rows = [r for r in means if (r["set"], r["scale"]) == key and "mp_per_s" in r]
        column = "psnr_y" if "psnr_y" in rows[0] else "psnr_rgb"
        points = [(r["mp_per_s"], r[column], r["model"]) for r in rows]
        drawn = [Series("", [(x, y)], [name]) for x, y, name in points]
        known = [
            (fast[p.name, p.scale], p.figures[SETS.index(key[0])], p.name)
            for p in published(key[1])
            if key[0] in SETS and (p.name, p.scale) in fast
        ]
        others = [(x, y, name) for x, y, name in known if y is not None]
        if others:
            spots, names = [(x, y) for x, y, _ in others], [n for *_, n in others]
            drawn.append(Series("PSNR published, speed measured", spots, names))
        picture = chart(
            drawn,
            f"{key[0]}, scale {key[1]}",
            f"output megapixels per second (LR of {SPEED_SIDE} x {SPEED_SIDE})",
            f"{column.upper().replace('_', '-')} in dB",
            logarithmic_x=True,
        )
        with atomic_write(folder / f"chart_{key[0]}_x{key[1]}.svg") as temporary:
            temporary.write_text(picture)


def _upscale(contender: Contender, low: Tensor) -> Tensor:
    """Returns the 8-bit answer (3, H, W) in [0, 255], float64."""
    with torch.inference_mode():
        return quantise(contender.upscale(low[None].float() / 255)[0])


def _scores(
    contender: Contender,
    low: Tensor,
    high: Tensor,
    protocol: Protocol,
    metrics: dict[str, Callable[[Tensor, Tensor], float]],
) -> dict[str, float]:
    out, reference = _upscale(contender, low), high.double()
    border = contender.scale if protocol.border else 0
    a, b = shave(out, border), shave(reference, border)
    scores = {name: measure(a, b) for name, measure in protocol.measures.items()}
    return scores | {name: measure(out, reference) for name, measure in metrics.items()}


def _picture(
    folder: Path,
    sets: Sequence[TestSet],
    contenders: Sequence[Contender],
    protocol: Protocol,
    count: int,
) -> None:
    """Writes `crops_x<scale>.png`: the windows that bicubic misses most."""
    for scale in sorted({c.scale for c in contenders}):
        rows = []
        for one in sets:
            for index in range(min(count, len(one.images))):
                low, high = one.pair(index, scale, protocol)
                if min(high.shape[-2:]) < SIDE:
                    continue
                plain = _upscale(bicubic(scale), low)
                top, left = hardest_window(plain, high, SIDE)

                def cut(
                    image: Tensor, top: int = top, left: int = left
                ) -> Tensor:  # of this row
                    return image[:, top : top + SIDE, left : left + SIDE]

                row = [(f"{one.name}\n{one.images[index].stem[:20]}", cut(high))]
                for c in (c for c in contenders if c.scale == scale):
                    out = _upscale(c, low)
                    a, b = (shave(luma(i.double()), scale) for i in (out, high))
                    row.append((f"{c.name[:24]}\n{psnr(a, b):.2f} dB", cut(out)))
                rows.append(row)
        if rows:
            with atomic_write(folder / f"crops_x{scale}.png") as temporary:
                crop_sheet(rows, SIDE, ZOOM).save(temporary, optimize=True)
