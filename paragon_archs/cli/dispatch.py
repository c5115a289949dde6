"""From a program's name and a word to the module that does the work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from ..utils.nearest import did_you_mean
from ..utils.threads import wait_asleep
from .common import EXIT_DONE, EXIT_USAGE, report


@dataclass(frozen=True)
class Command:
    """One word of a program.

    Attributes:
        module: What is imported when the word is used; it has `main(argv) -> int`.
        summary: A few words for the list of commands.
        group: The task under which the list shows it.
    """

    module: str
    summary: str
    group: str = "commands"


def usage(program: str, commands: Mapping[str, Command], word: str, foot: str) -> str:
    """Returns the list of commands, grouped by task."""
    width = max(map(len, commands))
    lines = [f"usage: {program} {word.upper()} ..."]
    for group in dict.fromkeys(c.group for c in commands.values()):
        lines += ["", f"{group}:"]
        lines += [
            f"  {name:<{width}}  {command.summary}"
            for name, command in commands.items()
            if command.group == group
        ]
    return "\n".join([*lines, "", foot])


def dispatch(
    program: str,
    commands: Mapping[str, Command],
    argv: Sequence[str] | None,
    word: str = "command",
    foot: str = "",
    load: Callable[[str], ModuleType] = importlib.import_module,
) -> int:
    """Runs the command that the first argument names; returns its exit code.

    Args:
        program: What the user typed before that argument.
        commands: By name.
        argv: The arguments, `sys.argv`'s by default.
        word: What a command is called in messages.
        foot: Last line of the help.
        load: Imports a module by name.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        text = usage(program, commands, word, foot)
        print(text, file=sys.stdout if arguments else sys.stderr)
        return EXIT_DONE if arguments else EXIT_USAGE
    name, *rest = arguments
    if name not in commands:
        hint = did_you_mean(name, commands, f"See `{program} --help`.")
        report(
            f"Expected a {word} out of {', '.join(commands)}, but got {name!r}. {hint}"
        )
        return EXIT_USAGE
    wait_asleep()
    try:
        module = load(commands[name].module)
    except (ImportError, FileNotFoundError) as error:
        report(str(error))
        return EXIT_USAGE
    return module.main(rest)
