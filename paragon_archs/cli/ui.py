"""`paragon ui`: upscaling in the browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..utils.optional import need
from .common import EXIT_DONE, Parser, execute, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the page until Ctrl-C."""
    return execute(flags(), serve, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "ui",
        "Opens a page in the browser that upscales pictures, videos and folders, as "
        "`paragon upscale` does. It listens on this machine alone.",
        "paragon ui",
        "paragon ui --port 7860 --no-browser",
    )
    arguments.add_argument("--port", type=int, help="port to listen on (a free one)")
    arguments.add_argument(
        "--no-browser", action="store_true", help="print the address only"
    )
    return arguments


def serve(options: argparse.Namespace) -> int:
    """Serves the page."""
    need("gradio", "the page in the browser", "paragon-archs[ui]")
    from ..ui.app import serve as serve_page

    serve_page(options.port, not options.no_browser)
    return EXIT_DONE
