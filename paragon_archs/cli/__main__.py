"""`paragon COMMAND ...`, and `python -m paragon_archs.cli COMMAND ...`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from .common import EXIT_DONE, EXIT_USAGE

# Command -> (module beside this one, summary). Modules load when they are called.
COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("info", "say what a weight file holds"),
    "fuse": ("fuse", "turn a training checkpoint into the fused form"),
    "export": ("export", "write an ONNX graph and check it against torch"),
    "upscale": ("upscale", "upscale images"),
    "quickstart": ("quickstart", "photographs and report of scripts/quickstart.sh"),
    "benchmark": ("benchmark", "measure speed, quality, training, video"),
    "convert": ("convert", "rewrite a weight file: layout, form, format, dtype"),
    "interpolate": ("interpolate", "blend two weight files of one network"),
    "integrate": ("integrate", "set up chaiNNer, ComfyUI, traiNNer-redux or neosr"),
    "variants": ("variants", "list the networks of this pack"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: paragon COMMAND ...",
            "",
            "commands:",
            *rows,
            "",
            "`paragon COMMAND --help` explains one. `basicsr train -opt FILE` trains.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(_usage(), file=sys.stderr)
        return EXIT_USAGE
    if arguments[0] in ("-h", "--help"):
        print(_usage())
        return EXIT_DONE
    if arguments[0] == "--version":
        version = importlib.import_module("paragon_archs").__version__
        print(f"paragon_archs {version}")
        return EXIT_DONE
    if arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else "See `paragon --help`."
        print(
            f"error: Expected a command out of {', '.join(COMMANDS)}, but got "
            f"{arguments[0]!r}. {hint}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    module = importlib.import_module(f"paragon_archs.cli.{COMMANDS[arguments[0]][0]}")
    return module.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
