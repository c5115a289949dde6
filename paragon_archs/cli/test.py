"""`basicsr test -opt FILE`, and `python -m paragon_archs.cli.test -opt FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.allocator import keep_freed_memory
from ..utils.processes import leave_processes
from .session import arguments_of, exit_code, prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Tests; returns 0, 1 (failed) or 2 (wrong options)."""
    arguments = arguments_of("test", argv)
    keep_freed_memory()
    return exit_code(lambda: _test(arguments), arguments.debug)


def _test(arguments: argparse.Namespace) -> int:
    from ..engine.folders import close_log
    from ..engine.testing import run_tests
    from ..host import patches

    options = prepare(arguments, is_train=False, root=Path.cwd())
    patches.install()
    try:
        return run_tests(arguments, options)
    finally:
        leave_processes()
        close_log()


if __name__ == "__main__":
    sys.exit(main())
