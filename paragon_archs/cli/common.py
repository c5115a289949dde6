"""What the sub-commands share: exit codes and errors in one sentence."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

EXIT_DONE = 0
EXIT_FAILED = 1  # the work itself failed, wholly or on some inputs
EXIT_USAGE = 2  # wrong use: arguments, option files, missing or unfit input
EXIT_STOPPED = 130  # by Ctrl-C, as shells count it


class CommandError(Exception):
    """The work failed (exit code 1); the message is the one sentence for the user."""


def guarded(run: Callable[[], int], debug: bool = False) -> int:
    """Runs a command; errors of the user's making become one sentence on stderr.

    Args:
        run: The command's work; returns an exit code.
        debug: Whether to let the traceback through.

    Returns:
        `run`'s exit code; 2 for wrong use (ValueError, TypeError, missing files,
        missing optional packages), 1 for a `CommandError`, 130 for Ctrl-C.
    """
    try:
        code = run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        code, message = EXIT_STOPPED, "stopped; what was under way is not written"
        if debug:
            raise
    except CommandError as error:
        code, message = EXIT_FAILED, str(error)
        if debug:
            raise
    except BrokenPipeError:
        # Whoever read our output has seen enough (`paragon variants | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (ValueError, TypeError, OSError, ImportError) as error:
        code, message = EXIT_USAGE, str(error) or type(error).__name__
        if debug:
            raise
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


# What argparse says -> how errors are worded here.
_WORDING = {
    r"the following arguments are required: (.+)": "Expected {}, but got none.",
    r"unrecognized arguments: (.+)": "Expected no more arguments, but got {!r}.",
    r"argument \S+: (Expected .+)": "{}",  # a type's own sentence
    r"argument (.+?): invalid int value: (.+)": (
        "Expected {} to be a whole number, but got {}."
    ),
    r"argument (.+?): invalid float value: (.+)": (
        "Expected {} to be a number, but got {}."
    ),
    r"argument (.+?): invalid choice: (.+) \(choose from (.+)\)": (
        "Expected {0} to be one of {2}, but got {1}."
    ),
    r"argument (.+?): expected .*argument.*": "Expected a value for {}, but got none.",
    r"argument (.+?): ignored explicit argument (.+)": (
        "Expected {} without a value, but got {}."
    ),
    r"argument (.+?): not allowed with argument (.+)": (
        "Expected one of {} and {}, but got both."
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence; the usage is left to `--help`."""

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override] (its overloads, as one)
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Parses as argparse does, and keeps what it was given for its errors."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong and where help is; exits with code 2."""
        for pattern, words in _WORDING.items():
            if found := re.fullmatch(pattern, message, re.DOTALL):
                message = words.format(*found.groups())
                break
        # A misspelt flag is the cause of arguments that are missing or left over.
        if "but got none" in message or "no more arguments" in message:
            message = self._misspelt() or message
        self.exit(EXIT_USAGE, f"error: {message} See `{self.prog} --help`.\n")

    def _misspelt(self) -> str | None:
        known = self._flags()
        for word in self._given:
            flag = word.partition("=")[0]
            if flag == "--":
                break
            if not re.match("-[^\\d.]", flag) or {flag, flag[:2]} & known:
                continue
            near = difflib.get_close_matches(flag, sorted(known), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            return f"Expected a flag of this command, but got {flag!r}.{hint}"
        return None

    def _flags(self) -> set[str]:
        """Returns the flags of this command and of its steps."""
        flags = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                flags |= {f for step in action.choices.values() for f in step._flags()}
        return flags


def parser(name: str, summary: str, example: str) -> Parser:
    """Returns a sub-command's parser: summary on top, one example at the end."""
    return Parser(
        prog=f"paragon {name}",
        description=summary,
        epilog=f"example: {example}",
        allow_abbrev=False,
    )


def set_up_logging(verbose: bool = False) -> None:
    """Sends the library's log messages to stderr, warnings and above by default."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )


def stem(file: str) -> str:
    """Returns the name of a weight file without folder and extension."""
    name = Path(file).name
    for suffix in (".pth.tar", ".safetensors", ".pth", ".ckpt", ".pt"):
        name = name.removesuffix(suffix)
    return name


def new_output(output: Path, overwrite: bool) -> Path:
    """Returns `output`.

    Raises:
        ValueError: when it exists and is not to be replaced.
    """
    if output.exists() and not overwrite:
        raise ValueError(
            f"Expected a new output, but {str(output)!r} exists. Choose another name "
            "or pass --overwrite."
        )
    return output


def check_claims(
    descriptor: ImageModelDescriptor[Any],
    file: str,
    variant: str | None = None,
    scale: int | None = None,
) -> None:
    """Holds flags that repeat what a checkpoint tells to what it tells.

    Args:
        descriptor: What `load_model` read from the checkpoint.
        file: Its name.
        variant: A variant, by its whole name (`paragonsr_s`) or its last part (`s`).
        scale: An upscaling factor.

    Raises:
        ValueError: when a flag contradicts the checkpoint.
    """
    from ..archs import variants  # noqa: PLC0415 (keeps `--help` fast)

    if variant is not None:
        family = descriptor.architecture.id.lower()
        read = getattr(descriptor.model, "hyperparameters", {})
        # Free hyperparameters have no variant: any of their architecture may be meant
        # that has the same kind of blocks.
        known = [
            name
            for name, entry in variants().items()
            if name.split("_")[0] == family
            and all(read[k] == v for k, v in entry.items() if isinstance(v, str))
        ]
        held = [t for t in descriptor.tags if t in known] or known
        wanted = variant.lower()
        if not any(n == wanted or n.endswith(f"_{wanted}") for n in held):
            told = held[0] if len(held) == 1 else f"a {descriptor.architecture.name}"
            raise ValueError(
                f"Expected --variant to be {told!r}, as {file!r} tells, but got "
                f"{variant!r}. Leave the flag out or name the right file."
            )
    if scale is not None and scale != descriptor.scale:
        raise ValueError(
            f"Expected --scale to be {descriptor.scale}, as {file!r} tells, but got "
            f"{scale}. Leave the flag out or name the right file."
        )
