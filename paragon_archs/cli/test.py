"""`basicsr test -opt FILE`, and `python -m paragon_archs.cli.test -opt FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.allocator import keep_freed_memory
from .session import arguments_of, exit_code, prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Tests; returns 0, 1 (failed) or 2 (wrong options)."""
    arguments = arguments_of("test", argv)
    keep_freed_memory()
    return exit_code(_test, arguments)


def _test(arguments: argparse.Namespace) -> int:
    from ..engine.context import run_context
    from ..engine.testing import run_tests
    from ..host import patches

    options = prepare(arguments, is_train=False, root=Path.cwd())
    patches.install()
    with run_context(arguments, options) as context:
        return run_tests(context)


if __name__ == "__main__":
    sys.exit(main())
