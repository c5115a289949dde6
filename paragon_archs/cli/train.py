"""`basicsr train -opt FILE`, and `python -m paragon_archs.cli.train -opt FILE`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.allocator import keep_freed_memory
from .session import arguments_of, exit_code, prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns 0, 1 (failed), 2 (wrong options), 130 or 143 (asked to stop)."""
    arguments = arguments_of("train", argv)
    keep_freed_memory()
    return exit_code(_train, arguments)


def _train(arguments: argparse.Namespace) -> int:
    from ..engine.context import run_context
    from ..engine.pipeline import Run
    from ..host import patches

    options = prepare(arguments, is_train=True, root=Path.cwd())
    patches.install()
    with (
        run_context(arguments, options) as context,
        contextlib.closing(Run(context)) as run,
    ):
        return run.train()


if __name__ == "__main__":
    sys.exit(main())
