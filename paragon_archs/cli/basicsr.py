"""`basicsr train|test -opt FILE`: the command that the host does not have."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .common import EXIT_DONE, EXIT_USAGE

USAGE = """usage: basicsr train -opt FILE ...
       basicsr test -opt FILE ...

`basicsr train --help` explains the flags."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `train` or `test` and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return EXIT_DONE
    if arguments[:1] not in (["train"], ["test"]):
        got = repr(arguments[0]) if arguments else "nothing"
        print(
            f"error: Expected train or test, but got {got}. See `basicsr --help`.",
            file=sys.stderr,
        )
        return EXIT_USAGE
    module = importlib.import_module(f"paragon_archs.cli.{arguments[0]}")
    return module.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
