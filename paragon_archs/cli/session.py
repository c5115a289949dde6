"""From a command line to checked options, folders and a log; for `train` and `test`."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..config.check import check_options
from ..config.data_check import SCALES, check_data
from ..config.errors import OptionError, TrainingError
from ..config.frozen import RunOptions, freeze
from ..config.loading import find_option_file, force, load_options
from ..config.sections.run import RunSection
from ..config.signatures import known_types, parameters
from ..utils.registry import load_host
from .common import EXIT_FAILED, EXIT_USAGE, CommandError, guarded, parser, report

# Error -> exit code; a ValueError is a bug here, not the user's mistake.
ERRORS: dict[type[BaseException], int] = {
    OptionError: EXIT_USAGE,
    TrainingError: EXIT_FAILED,
    CommandError: EXIT_FAILED,
    torch.cuda.OutOfMemoryError: EXIT_FAILED,
    OSError: EXIT_FAILED,
}


# Command -> what it does, and examples.
_HELP = {
    "train": (
        "Trains the network that an option file describes.",
        "basicsr train -opt options/paragonsr_s.yml --force_yml "
        "datasets:train:dataroot_gt=DIV2K/HR datasets:val:dataroot_gt=Set14/HR",
        "basicsr train -opt my.yml --auto_resume",
        "basicsr train -opt my.yml --force_yml name=slower train:optim_g:lr=1e-4",
    ),
    "test": (
        "Runs a trained network over the test sets of an option file.",
        "basicsr test -opt my_test.yml",
        "basicsr test -opt my_test.yml --force_yml "
        "path:pretrain_network_g=experiments/my/models/net_g_latest.safetensors",
    ),
}


def arguments_of(command: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the host's flags."""
    summary, *examples = _HELP[command]
    arguments = parser(command, summary, *examples, program="basicsr")
    arguments.add_argument("-opt", required=True, help="option file (YAML)")
    arguments.add_argument(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="KEY:PATH=VALUE",
        help="override keys of the option file",
    )
    arguments.add_argument(
        "--auto_resume", action="store_true", help="go on from the newest whole state"
    )
    arguments.add_argument(
        "--debug",
        action="store_true",
        help="short intervals, `debug_` before the name, tracebacks",
    )
    arguments.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="what started several processes (%(default)s)",
    )
    arguments.add_argument(  # torch's launchers write it with a hyphen
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )
    return arguments.parse_args(argv)


def prepare(arguments: argparse.Namespace, is_train: bool, root: Path) -> RunOptions:
    """Reads, overrides and checks the options; nothing is created.

    Args:
        arguments: What `arguments_of` returned.
        is_train: Training, or testing.
        root: Folder under which experiments and results go.

    Returns:
        The options, frozen, with defaults and the host's own entries filled in.

    Raises:
        OptionError: with one sentence for each mistake.
    """
    options = load_options(find_option_file(arguments.opt))
    force(options, arguments.force_yml)
    check_options(options, is_train)
    opt = options.values
    if arguments.debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
        if is_train:
            opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 8}
            if opt.get("val"):
                opt["val"]["val_freq"] = 8
    _hand_scale_on(opt)
    check_data(options, is_train)
    options.record()
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = min(1, torch.cuda.device_count())
    opt["is_train"] = is_train
    for name, section in opt["datasets"].items():
        section["phase"] = str(name).split("_")[0]
        if "scale" in opt:
            section["scale"] = opt["scale"]
        for key, value in section.items():
            if str(key).startswith(("dataroot", "meta_info")) and value:
                section[key] = str(Path(value).expanduser())
    folder = root / ("experiments" if is_train else "results") / opt["name"]
    opt["path"] |= {
        "experiments_root" if is_train else "results_root": str(folder),
        "log": str(folder),
        "visualization": str(folder / "visualization"),
    }
    if is_train:
        opt["path"] |= {
            "models": str(folder / "models"),
            "training_states": str(folder / "training_states"),
        }
    return RunOptions(
        name=opt["name"],
        model_type=opt["model_type"],
        is_train=is_train,
        auto_resume=arguments.auto_resume,
        root=root,
        values=freeze(opt),
        sections=RunSection.read(opt),
        recorded=freeze(options.recorded),
        file=options.file,
        places=options.places,
    )


def _hand_scale_on(opt: dict[str, object]) -> None:
    """Gives the networks of this pack the scale, unless their section has it."""
    for name, section in opt.items():
        if not str(name).startswith("network_") or not isinstance(section, dict):
            continue
        target = known_types("network").get(section.get("type", ""))
        if target is None or not target.__module__.startswith("paragon_archs."):
            continue
        known = parameters("network", target)
        for key in SCALES:
            if key in known and "scale" in opt:
                section.setdefault(key, opt["scale"])


def exit_code(
    run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace
) -> int:
    """Runs a command with its flags; mistakes become sentences and an exit code.

    Returns:
        `run`'s; 2 for wrong options or data, 1 for work that failed, 130 for a second
        Ctrl-C, or one before the first iteration.
    """
    if not load_host():
        report(
            "Expected BasicSR to be installed, but it is not, or it is broken. "
            "Install it: pip install 'paragon-archs[train]' (Python 3.10 to 3.12)."
        )
        return EXIT_FAILED
    stopped = "Stopped at once; what was saved stays."
    work = functools.partial(run, arguments)
    return guarded(work, arguments.debug, ERRORS, _report, stopped)


def _report(error: BaseException) -> Sequence[str]:
    """Returns the sentences of what ended a run."""
    if isinstance(error, OptionError):
        return error.sentences
    text = str(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        text = (
            f"Expected the batch to fit into the GPU's memory, but got: {text} Lower "
            "batch_size_per_gpu and raise train:accum_iter."
        )
    elif isinstance(error, OSError):
        text = (
            f"Expected files to be read and written, but got: {text}. Check the path, "
            "its permissions and the room on its disk."
        )
    return [text]
