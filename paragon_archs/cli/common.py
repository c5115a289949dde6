"""What the sub-commands share: exit codes and errors in one sentence."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..utils.files import sentence_of
from ..utils.nearest import nearest

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor
    from torch import Tensor, nn

    from ..loaders import PackArchitecture, Reading

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 130

EXITS: dict[int, str] = {
    EXIT_DONE: "done",
    EXIT_FAILED: "the work failed, wholly or on some inputs",
    EXIT_USAGE: "wrong use: arguments, option files, missing or unfit input",
    EXIT_STOPPED: "stopped by Ctrl-C, as shells count it (143 by SIGTERM)",
}
"""Exit code -> when; `--help` and the docs print this table."""


class CommandError(Exception):
    """The work failed (exit code 1); the message is the one sentence for the user."""


# Error -> exit code, the first that fits. What is missing here is a bug of ours, and
# ends with its traceback.
ERRORS: dict[type[BaseException], int] = {
    CommandError: EXIT_FAILED,
    ValueError: EXIT_USAGE,
    TypeError: EXIT_USAGE,
    OSError: EXIT_USAGE,
    ImportError: EXIT_USAGE,
}
_STOPPED = "stopped; what was under way is not written"


def sentences_of(error: BaseException) -> Sequence[str]:
    """Returns the message of an error, or its name where it has none."""
    return [sentence_of(error)]


def guarded(
    run: Callable[[], int],
    debug: bool | None = None,
    errors: Mapping[type[BaseException], int] = ERRORS,
    words: Callable[[BaseException], Sequence[str]] = sentences_of,
    stopped: str = _STOPPED,
) -> int:
    """Runs a command; its errors become one sentence each on stderr and an exit code.

    Args:
        run: The command's work; returns an exit code.
        debug: Whether to let tracebacks through; by default whether the environment
            variable `PARAGON_DEBUG` is set.
        errors: The errors that are caught, with their exit codes.
        words: The sentences of an error.
        stopped: The sentence for Ctrl-C.

    Returns:
        `run`'s exit code, that of the error, or 130 for Ctrl-C.
    """
    debug = bool(os.environ.get("PARAGON_DEBUG")) if debug is None else debug
    try:
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has seen enough (`paragon variants | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (KeyboardInterrupt, *errors) as error:
        if debug:
            raise
        if isinstance(error, KeyboardInterrupt):
            code, sentences = EXIT_STOPPED, [stopped]
        else:
            code = next(c for kind, c in errors.items() if isinstance(error, kind))
            sentences = words(error)
    report(*sentences)
    return code


def report(*sentences: str) -> None:
    """Prints errors on stderr, one line each."""
    for text in sentences:
        print(f"error: {' '.join(text.split())}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """argparse in its own words, on one line; the usage is left to `--help`."""

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override] (its overloads, as one)
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses as argparse does, and keeps what it was given for its errors."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace or argparse.Namespace())

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong and where help is; exits with code 2."""
        parts = [f"{message}."]
        # A misspelt flag is the cause of arguments that are missing or left over.
        for flag, near in self._misspelt():
            meant = f"did you mean {near}?" if near else "there is none like it."
            parts.append(f"{flag} is no flag of this command; {meant}")
        text = " ".join(" ".join(parts).split())
        self.exit(EXIT_USAGE, f"error: {text} See `{self.prog} --help`.\n")

    def _misspelt(self) -> Iterator[tuple[str, str | None]]:
        known = self._flags()
        for word in self._given:
            flag = word.partition("=")[0]
            if flag == "--":
                return
            if re.match(r"-[^\d.]", flag) and not {flag, flag[:2]} & known:
                yield flag, next(iter(nearest(flag, sorted(known))), None)

    def _flags(self) -> set[str]:
        """Returns the flags of this command and of its steps."""
        flags = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                flags |= {f for step in action.choices.values() for f in step._flags()}
        return flags


def parser(name: str, summary: str, *examples: str, program: str = "paragon") -> Parser:
    """Returns a command's parser.

    Args:
        name: The command.
        summary: One or two sentences.
        examples: Whole command lines.
        program: What stands before the name.
    """
    codes = [f"  {code:<4} {when}" for code, when in EXITS.items()]
    lines = ["examples:", *(f"  {e}" for e in examples), "", "exit codes:", *codes]
    return Parser(
        prog=f"{program} {name}".strip(),
        description=textwrap.fill(summary, 80),
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def execute(
    flags: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses arguments and runs a command with them; returns its exit code."""
    options = flags.parse_args(argv)
    return guarded(lambda: run(options))


def add_json(arguments: argparse.ArgumentParser) -> None:
    """Adds the flag that turns a command's table into JSON."""
    arguments.add_argument(
        "--json", action="store_true", help="print JSON, for programs"
    )


def print_json(value: object) -> None:
    """Prints a value as JSON; numbers that are none (NaN, infinity) become null."""

    def plain(one: object) -> object:
        if isinstance(one, dict):
            return {str(k): plain(v) for k, v in one.items()}
        if isinstance(one, (list, tuple)):
            return [plain(v) for v in one]
        if isinstance(one, float) and not math.isfinite(one):
            return None
        return one

    print(json.dumps(plain(value), indent=1, ensure_ascii=False, default=str))


def image_size(text: str) -> tuple[int, int]:
    """Reads `HEIGHTxWIDTH`, for argparse."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected HEIGHTxWIDTH, such as 720x1280, but got {text!r}"
        )
    return int(found[1]), int(found[2])


def set_up_logging(verbose: bool = False) -> None:
    """Sends the library's log messages to stderr, warnings and above by default."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    # Libraries' own are for developers: one line each, and only where asked for.
    warnings.formatwarning = lambda message, *_, **__: str(message)
    logging.captureWarnings(True)
    for name in ("py.warnings", "tifffile"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.ERROR)


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
        IsADirectoryError: when it is a folder.
    """
    if output.is_dir():
        raise IsADirectoryError(
            f"Expected a file to write, but {str(output)!r} is a folder. Name a file "
            "in it."
        )
    if output.exists() and not overwrite:
        raise ValueError(
            f"Expected a new output, but {str(output)!r} exists. Choose another name "
            "or pass --overwrite."
        )
    return output


def read_ours(file: str) -> tuple[dict[str, Tensor], PackArchitecture, Reading]:
    """Returns the tensors of a weight file, its loader and what that reads off them.

    Raises:
        ValueError: when it holds no network of this pack.
    """
    from ..checkpoint import find_architecture, read_state_dict

    state = read_state_dict(file)
    architecture = find_architecture(state)
    if architecture is None:
        raise ValueError(
            f"Expected a network of this pack, but got {file!r}, which is not. "
            "`paragon info` prints what it is."
        )
    return state, architecture, architecture.inspect(state)


def checkpoint_of(options: argparse.Namespace) -> str:
    """Returns the checkpoint that INPUT or the published `--checkpoint` names.

    Raises:
        ValueError: when it is neither, or both.
    """
    source = options.input or options.checkpoint
    if not source or (options.input and options.checkpoint):
        count = "two" if source else "none"
        raise ValueError(
            f"Expected one checkpoint, but got {count}. Give INPUT or --checkpoint."
        )
    return source


def check_claims(
    descriptor: ImageModelDescriptor[nn.Module],
    file: str,
    variant: str | None = None,
    scale: int | None = None,
) -> None:
    """Holds flags that repeat what a checkpoint records to what it records.

    Args:
        descriptor: What `load_model` read from the checkpoint.
        file: Its name.
        variant: A variant, by its whole name (`paragonsr_s`) or its last part (`s`).
        scale: An upscaling factor.

    Raises:
        ValueError: when a flag contradicts the checkpoint.
    """
    from ..archs import variants

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
            recorded = (
                held[0] if len(held) == 1 else f"a {descriptor.architecture.name}"
            )
            raise ValueError(
                f"Expected --variant to be {recorded!r}, as recorded in {file!r}, but "
                f"got {variant!r}. Leave the flag out or name the right file."
            )
    if scale is not None and scale != descriptor.scale:
        raise ValueError(
            f"Expected --scale to be {descriptor.scale}, as recorded in {file!r}, but "
            f"got {scale}. Leave the flag out or name the right file."
        )
