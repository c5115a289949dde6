"""`paragon integrate HOST [PATH]`: puts the pack where people already are."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..integrations import chainner
from ..integrations.copies import (
    HOSTS,
    MODEL_FOLDERS,
    place,
    shipped_weights,
    states,
    take_away,
)
from .common import EXIT_DONE, EXIT_FAILED, CommandError, Parser, execute, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Installs into a host, checks it, or takes everything away again."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "integrate",
        "Makes a host open (and train) this pack's networks; nothing is patched.",
        "paragon integrate comfyui ~/ComfyUI --weights",
        "paragon integrate forge ~/stable-diffusion-webui-forge --weights",
        "paragon integrate chainner --check",
        "paragon integrate neosr ~/neosr --remove",
    )
    arguments.add_argument("host", choices=["chainner", *HOSTS], help="the program")
    arguments.add_argument(
        "path", nargs="?", type=Path, help="its folder (all but chainner need it)"
    )
    arguments.add_argument(
        "--python", type=Path, help="chainner: its Python (the bundled one)"
    )
    arguments.add_argument(
        "--weights",
        action="store_true",
        help="the shipped models as well, where the host looks for upscalers "
        f"({', '.join(MODEL_FOLDERS)})",
    )
    what = arguments.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say what is the case")
    what.add_argument("--remove", action="store_true", help="take all of it away")
    arguments.add_argument(
        "--overwrite", action="store_true", help="replace files that differ"
    )
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    if options.weights and options.host not in MODEL_FOLDERS:
        raise ValueError(
            f"Expected --weights with {', '.join(MODEL_FOLDERS)}, but got it with "
            f"{options.host}. Use `paragon models --copy FOLDER`."
        )
    return (_chainner if options.host == "chainner" else _copies)(options)


def _chainner(options: argparse.Namespace) -> int:
    if options.path is not None:
        raise ValueError(
            f"Expected no path for chainner, but got {str(options.path)!r}. Name its "
            "Python with --python if it is not where chaiNNer puts it."
        )
    python = (
        chainner.bundled_python() if options.python is None else _named(options.python)
    )
    try:
        if options.remove:
            gone = chainner.remove(python)
            print(f"{'removed from' if gone else 'was not in'} {python}")
            return EXIT_DONE
        if not options.check:
            chainner.install(python)
    except RuntimeError as error:
        raise CommandError(str(error)) from error
    found = chainner.versions(python)
    known = chainner.registered(python) if found["spandrel"] else []
    print(f"{python} (Python {found['python']})")
    for name in (*chainner.FLOORS, chainner.DISTRIBUTION):
        print(f"  {name:<14} {found[name] or 'not installed'}")
    print(f"  spandrel knows {', '.join(known) or 'none of our networks'}")
    if known:
        return EXIT_DONE
    if not options.check:
        raise CommandError(
            "Expected spandrel to know our networks after the installation, but it "
            "knows none. `--check` prints what is installed."
        )
    return EXIT_FAILED


def _named(python: Path) -> Path:
    """An interpreter as the shell means it: a path from here, or a command's name.

    Links are not followed: a virtual environment's Python is one.
    """
    path = Path(os.path.abspath(python.expanduser()))
    if path.exists() or len(python.parts) > 1:
        return path
    return Path(shutil.which(python) or path)


def _copies(options: argparse.Namespace) -> int:
    if options.python is not None or options.path is None:
        raise ValueError(
            f"Expected the folder of {options.host}, and no --python, but got "
            f"{str(options.path)!r}. Name the folder."
        )
    folder = options.path.expanduser().resolve()
    files = HOSTS[options.host](folder)
    if options.weights:
        files |= shipped_weights(options.host, folder)
    if options.check:
        found = list(states(files).values())
        for state in ("current", "absent", "different"):
            print(f"{found.count(state):>4} {state}")
        return EXIT_DONE if found.count("current") == len(found) else EXIT_FAILED
    if options.remove:
        count, kept = take_away(files)
        print(f"removed {count} files")
        for path in kept:
            print(f"kept {path}: it was edited")
        return EXIT_FAILED if kept else EXIT_DONE
    count = place(files, options.overwrite)
    print(f"wrote {count} files, {len(files) - count} were there already")
    return EXIT_DONE
