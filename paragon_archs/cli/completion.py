"""Completion in the shell: `eval "$(register-python-argcomplete paragon)"`.

argcomplete starts the command with what has been typed in the environment; only the
parser of the command on that line is built, which loads no torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Mapping

from .dispatch import Command

# Arguments that take a model, by the name that argparse stores them under.
_MODELS = ("model", "models", "networks", "file", "first", "second", "checkpoint")


def complete(program: str, commands: Mapping[str, Command]) -> None:
    """Answers the shell's question and ends the process; does nothing without one.

    Raises:
        ImportError: when argcomplete is not installed.
    """
    argcomplete = importlib.import_module("argcomplete")
    typed = os.environ.get("COMP_LINE", "").split()[1:]
    argcomplete.autocomplete(tree(program, commands, typed))


def tree(
    program: str, commands: Mapping[str, Command], typed: list[str]
) -> argparse.ArgumentParser:
    """Returns a parser of all commands, whole for the one that was typed."""
    top = argparse.ArgumentParser(prog=program)
    steps = top.add_subparsers()
    for name, command in commands.items():
        module = None
        if typed[:1] == [name]:
            module = importlib.import_module(command.module)
        if module and hasattr(module, "flags"):
            own = module.flags()
            steps.add_parser(name, parents=[own], add_help=False)
            for action in own._actions:
                if action.dest in _MODELS:
                    action.completer = _shipped
        elif module and hasattr(module, "TOPICS"):
            inner = tree(f"{program} {name}", module.TOPICS, typed[1:])
            steps.add_parser(name, parents=[inner], add_help=False)
        else:
            steps.add_parser(name)
    return top


def _shipped(**_: object) -> list[str]:
    """Names shipped models; files are completed beside them."""
    argcomplete = importlib.import_module("argcomplete.completers")
    from ..weights import available

    prefix = str(_.get("prefix", ""))
    return [*available(), *argcomplete.FilesCompleter()(prefix)]
