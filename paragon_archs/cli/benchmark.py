"""`paragon benchmark TOPIC ...`, and `scripts/benchmark.py`: figures, measured here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .common import EXIT_DONE, EXIT_USAGE

# Topic -> (module beside this one, summary).
TOPICS: dict[str, tuple[str, str]] = {
    "training": ("benchmark_training", "seconds per training step"),
    "speed": ("benchmark_speed", "published, fused, deploy form, onnxruntime"),
    "quality": ("benchmark_quality", "PSNR, SSIM and more over test sets"),
    "upscale": ("benchmark_upscale", "speed over a folder; exactness of strips"),
    "video": ("benchmark_video", "flicker with and without the temporal mode"),
    "data": ("benchmark_data", "training pairs per second"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one benchmark and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    rows = "\n".join(f"  {name:<9} {text}" for name, (_, text) in TOPICS.items())
    usage = f"usage: paragon benchmark TOPIC ...\n\ntopics:\n{rows}"
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage)
        return EXIT_DONE
    if not arguments or arguments[0] not in TOPICS:
        got = f", but got {arguments[0]!r}" if arguments else ""
        print(
            f"error: Expected a topic out of {', '.join(TOPICS)}{got}. See `paragon "
            "benchmark --help`.",
            file=sys.stderr,
        )
        return EXIT_USAGE
    module = importlib.import_module(f"paragon_archs.cli.{TOPICS[arguments[0]][0]}")
    return module.main(arguments[1:])
