"""`basicsr train|test -opt FILE`: the command that the host does not have."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .dispatch import Command, dispatch

COMMANDS: dict[str, Command] = {
    "train": Command("paragon_archs.cli.train", "train what an option file describes"),
    "test": Command("paragon_archs.cli.test", "test over an option file's sets"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `train` or `test` and returns its exit code."""
    foot = "`basicsr train --help` explains the flags."
    return dispatch("basicsr", COMMANDS, argv, foot=foot)


if __name__ == "__main__":
    sys.exit(main())
