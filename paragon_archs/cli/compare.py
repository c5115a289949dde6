"""`paragon compare A B ... -o page.html`: pictures or models on one page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.files import check_folder
from .common import (
    EXIT_DONE,
    Parser,
    add_json,
    execute,
    new_output,
    parser,
    print_json,
)
from .progress import add_progress, progress
from .startup import load_spandrel

if TYPE_CHECKING:
    from ..evaluation.comparison import Metrics
    from ..evaluation.page import Set

# As `media.paths` has it; `--help` of this command needs none of it.
_PLACES = "pictures, or folders whose files are paired by name"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a page with a slider, a difference map and a table."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "compare",
        "Writes one HTML file, which needs no network, with a slider between any two "
        "pictures, zoom, a difference map and a table of measures.",
        "paragon compare bicubic.png upscaled.png --reference original.png",
        "paragon compare photo.png --models paragonsr2_realtime_x4 net_g.safetensors",
        "paragon compare results_old results_new --reference HR -o page.html",
    )
    arguments.add_argument("input", nargs="+", help=_PLACES)
    arguments.add_argument(
        "--reference", help="the original to measure against (the first picture)"
    )
    arguments.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="weight files or shipped models, run on one picture or folder",
    )
    arguments.add_argument(
        "-o", "--output", default="compare.html", help="page to write (%(default)s)"
    )
    arguments.add_argument("--title", help="of the page")
    arguments.add_argument(
        "--fast", action="store_true", help="no LPIPS, DISTS, TOPIQ, if pyiqa is there"
    )
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    arguments.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    add_json(arguments)
    add_progress(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    load_spandrel()
    from ..evaluation import comparison, page

    output = new_output(Path(options.output), options.overwrite)
    check_folder(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"Expected --output to end in .html, but got {str(output)!r}. It is a page."
        )
    inputs = [Path(entry).expanduser() for entry in options.input]
    reference = Path(options.reference).expanduser() if options.reference else None
    _check(options, inputs, reference)
    metrics: Metrics = {}
    if not options.fast:
        metrics, failed = comparison.perceptual_metrics()
        if failed:
            why = next(iter(failed.values()))
            print(f"not measured: {', '.join(failed)}: {why}", file=sys.stderr)
    with progress(options):
        sets = (_models if options.models else _pictures)(
            options, inputs, reference, metrics
        )
    count = sets[0].name if len(sets) == 1 else f"{len(sets)} pictures"
    title = options.title or f"Comparison of {count}"
    page.write(output, page.render(title, sets, comparison.MEASURES))
    if options.json:
        print_json(
            [
                {
                    "name": one.name,
                    "against": one.against,
                    "difference": one.difference,
                    "pictures": [{"name": e.name, **e.measures} for e in one.entries],
                }
                for one in sets
            ]
        )
    elif not options.quiet:
        print(f"wrote {output}")
    other = {one.against for one in sets if not any(e.measures for e in one.entries)}
    if other:
        print(
            f"not measured: no picture has the size of {min(other)!r}", file=sys.stderr
        )
    return EXIT_DONE


def _check(
    options: argparse.Namespace, inputs: Sequence[Path], reference: Path | None
) -> None:
    """Raises an error where what is given cannot be compared."""
    from ..weights import resolve

    for model in options.models or ():
        resolve(model)
    for path in [*inputs, *([reference] if reference else [])]:
        if not path.exists():
            raise FileNotFoundError(
                f"Expected a picture or a folder, but there is no {str(path)!r}. Check "
                "the path."
            )
    if options.models and len(inputs) > 1:
        raise ValueError(
            f"Expected one picture or folder with --models, but got {len(inputs)}. "
            "Models run on the same picture."
        )
    if not options.models and len(inputs) + bool(reference) < 2:
        raise ValueError(
            f"Expected two pictures or more, but got {str(inputs[0])!r} alone. Name "
            "another, --reference, or --models to run on it."
        )
    kinds = {path.is_dir() for path in [*inputs, *([reference] if reference else [])]}
    if len(kinds) > 1:
        raise ValueError(
            "Expected pictures or folders, but got both. Compare folders with folders."
        )


def _pictures(
    _: argparse.Namespace,
    inputs: Sequence[Path],
    reference: Path | None,
    metrics: Metrics,
) -> list[Set]:
    """Compares files, or the files of folders."""
    from ..evaluation import comparison
    from ..evaluation.page import Entry
    from ..utils.progress import task

    labels = distinct(inputs)
    scenes = [(" and ".join(labels), list(inputs), reference)]
    if inputs[0].is_dir():
        scenes = comparison.pair_up(inputs, reference)
    sets = []
    with task("compare", len(scenes), "picture") as counted:
        for name, files, original in scenes:
            entries = [
                Entry(label, comparison.read_rgb(file))
                for label, file in zip(labels, files, strict=True)
            ]
            target = None
            if original is not None:
                target = Entry("original", comparison.read_rgb(original))
            sets.append(comparison.compare(name, entries, target, metrics))
            counted.advance()
    return sets


def _models(
    options: argparse.Namespace,
    inputs: Sequence[Path],
    reference: Path | None,
    metrics: Metrics,
) -> list[Set]:
    """Runs models on a picture, or on the pictures of a folder."""
    from ..evaluation import comparison
    from ..inference import Upscaler
    from ..utils.allocator import keep_freed_memory
    from ..weights import resolve

    keep_freed_memory()
    files = [resolve(model) for model in options.models]
    models = {
        label: Upscaler(file, options.device)
        for label, file in zip(distinct(files), files, strict=True)
    }
    scenes = [(inputs[0].stem, inputs[0], reference)]
    if inputs[0].is_dir():
        found = comparison.pair_up(inputs, reference)
        scenes = [(name, paths[0], original) for name, paths, original in found]
    return comparison.run_models(scenes, models, metrics)


def distinct(paths: Sequence[Path]) -> list[str]:
    """Returns a short name for each path: its stem, longer where that is not alone."""
    names = [path.stem or str(path) for path in paths]
    for depth in range(2, max(len(p.parts) for p in paths) + 1):
        if len(set(names)) == len(names):
            return names
        names = ["/".join(p.with_suffix("").parts[-depth:]) for p in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{index}: {path}" for index, path in enumerate(paths, 1)]
