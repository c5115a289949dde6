"""`paragon COMMAND ...`, and `python -m paragon_archs COMMAND ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .common import EXIT_DONE
from .dispatch import Command, dispatch

_UPSCALE, _MODELS, _MEASURE, _ELSEWHERE = (
    "upscale",
    "weights and networks",
    "compare and measure",
    "use elsewhere",
)

COMMANDS: dict[str, Command] = {
    name: Command(f"paragon_archs.cli.{name}", summary, group)
    for name, summary, group in (
        ("upscale", "upscale images and videos", _UPSCALE),
        ("ui", "upscale in the browser", _UPSCALE),
        ("models", "list the models that ship, copy their files", _MODELS),
        ("info", "print what a weight file holds", _MODELS),
        ("variants", "list the networks of this pack", _MODELS),
        ("fuse", "turn a training checkpoint into the fused form", _MODELS),
        ("convert", "rewrite a weight file: layout, form, format, dtype", _MODELS),
        ("interpolate", "blend two weight files of one network", _MODELS),
        ("compare", "pictures or models on one page, with a slider", _MEASURE),
        ("benchmark", "measure quality, flicker, speed", _MEASURE),
        ("quickstart", "photographs and report of scripts/quickstart.sh", _MEASURE),
        ("export", "write an ONNX graph or a TensorRT engine, checked", _ELSEWHERE),
        (
            "integrate",
            "set up chaiNNer, ComfyUI, Forge, traiNNer-redux, ...",
            _ELSEWHERE,
        ),
        ("doctor", "print what a bug report needs", _ELSEWHERE),
    )
}

FOOT = (
    "`paragon COMMAND --help` explains one; `paragon --version` prints the version.\n"
    "`basicsr train -opt FILE` trains."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from .. import __version__

        print(f"paragon_archs {__version__}")
        return EXIT_DONE
    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete("paragon", COMMANDS)
    return dispatch("paragon", COMMANDS, arguments, foot=FOOT)


if __name__ == "__main__":
    sys.exit(main())
