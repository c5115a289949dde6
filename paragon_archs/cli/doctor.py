"""`paragon doctor`: what a bug report needs, in one paste."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .common import EXIT_DONE, Parser, add_json, execute, parser, print_json


def main(argv: Sequence[str] | None = None) -> int:
    """Prints versions, devices, runtimes, hosts and their repairs."""
    return execute(flags(), run, argv)


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "doctor",
        "Prints what a bug report needs: versions, devices, runtimes, which hosts are "
        "usable, and which repairs of BasicSR this machine needs. Paths and names of "
        "users are left out.",
        "paragon doctor",
        "paragon doctor --json > doctor.json",
    )
    add_json(arguments)
    return arguments


def run(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for."""
    from ..integrations.diagnosis import diagnose

    sections = diagnose()
    if options.json:
        print_json(sections)
        return EXIT_DONE
    for title, facts in sections.items():
        print(f"{title}:")
        width = max(map(len, facts), default=0)
        for name, fact in facts.items():
            print(f"  {name:<{width}}  {fact}")
    return EXIT_DONE
