"""Training states: everything that a run needs to go on exactly as if uninterrupted."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..checkpoint import read_pickle, write_pickle
from ..config.errors import TrainingError, wrong
from ..config.frozen import RunOptions
from ..utils.processes import of_first
from .context import RunContext
from .guard import all_finite
from .model import Model
from .resuming import training_state

logger = logging.getLogger("basicsr")

FORMAT = 1


@dataclass(frozen=True)
class ResumePoint:
    """The training state that a run goes on from."""

    file: Path
    state: Mapping[str, Any]

    @property
    def iteration(self) -> int:
        """Steps done."""
        return int(self.state["iter"])


def rng_state() -> dict[str, object]:
    """Returns the states of this process's random number generators."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, _tensor(keys), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _tensor(keys: object) -> torch.Tensor:
    return torch.from_numpy(np.array(keys, dtype=np.int64))


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Gives this process's random number generators a state back."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def save_state(
    folder: Path,
    model: Model,
    epoch: int,
    current_iter: int,
    position: Mapping[str, object],
    options: Mapping[str, object],
) -> None:
    """Writes `<iteration>.state`, whole or not at all; only rank 0 writes.

    Args:
        folder: `experiments/NAME/training_states`.
        model: Of the host or the pack.
        epoch: Epoch that the next step belongs to.
        current_iter: Steps done.
        position: What the pipeline keeps: seed, batch, processes, early stopping.
        options: The keys of the option file, for a resumed run to compare with.

    Raises:
        TrainingError: when a weight is not finite; nothing is written then.
        OSError: when the disk is full.
    """
    generators: list[object] = [rng_state()]
    if model.opt["dist"]:
        generators = [None] * model.opt["world_size"]
        dist.all_gather_object(generators, rng_state())
    if model.opt["rank"] != 0:
        return
    state = {
        "format": FORMAT,
        "epoch": epoch,
        "iter": current_iter,
        "rng": generators,
        "position": dict(position),
        "options": copy.deepcopy(options),  # plain ones
        **training_state(model),
    }
    for name, tensors in state["networks"].items():
        if not all_finite(tensors.values()):
            raise TrainingError(
                f"Expected finite weights, but {name} holds others at iteration "
                f"{current_iter}. No state was written; resume from the last one."
            )
    write_pickle(state, folder / f"{current_iter}.state")


def list_states(folder: Path) -> list[Path]:
    """Returns the states of a run, the newest first."""
    if not folder.is_dir():
        return []
    states = [p for p in folder.glob("*.state") if p.stem.isdigit()]
    return sorted(states, key=lambda p: int(p.stem), reverse=True)


def read_state(path: Path) -> dict[str, Any]:
    """Reads a training state onto the CPU; nothing in it is executed.

    Raises:
        ValueError: when it is cut off or no training state.
    """
    try:
        state = read_pickle(path)
    except ValueError as error:
        raise ValueError(
            f"Expected {str(path)!r} to be a whole training state, but it is cut off "
            "or damaged. Use an older one."
        ) from error
    if not isinstance(state, dict) or "iter" not in state:
        raise ValueError(
            f"Expected {str(path)!r} to be a training state, but it holds something "
            "else. Name a file out of training_states."
        )
    return state


def newest_state(folder: Path) -> ResumePoint | None:
    """Returns the newest state that is whole, or None; damaged ones are named."""
    for path in list_states(folder):
        try:
            return ResumePoint(path, read_state(path))
        except ValueError as error:
            logger.warning("%s It is passed over.", error)
    return None


def find_state(context: RunContext) -> ResumePoint | None:
    """Returns the training state to go on from, or None for a fresh run.

    The first process looks for the newest: a shared folder may show the others less.

    Raises:
        OptionError: when the state that the options name is not whole.
        OSError: when a process cannot read what the first has found.
    """
    options = context.options
    found = None
    if options.auto_resume and context.first:
        found = newest_state(context.folders.states)
    newest = of_first(found and found.file, context.distributed)
    if newest is not None:
        return found or ResumePoint(newest, read_state(newest))
    named = options.sections.path.resume_state
    if not named:
        return None
    try:
        return ResumePoint(Path(named), read_state(Path(named)))
    except ValueError as error:
        raise wrong(
            "no_state",
            key="path:resume_state",
            value=named,
            problem="is cut off, damaged or something else",
            place=options.place(("path", "resume_state")),
        ) from error


def weights_beside(options: RunOptions, resume: ResumePoint) -> dict[str, str]:
    """Returns entries of `path` for a state of the host, which holds no weights.

    They lie beside it, in `models`.
    """
    values = options.values
    path: dict[str, str] = {}
    folder = resume.file.parent.parent / "models"
    for section in values:
        if str(section).startswith("network_"):
            label = section.removeprefix("network_")
            file = folder / f"net_{label}_{resume.iteration}.pth"
            path[f"pretrain_{section}"] = str(file)
            if values["path"].get(f"param_key_{label}") == "params_ema":
                path[f"param_key_{label}"] = "params"
    return path


def prune(folder: Path, models: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints; 0 keeps all."""
    if keep < 1:
        return
    for path in list_states(folder)[keep:]:
        path.unlink()
        for weights in models.glob(f"net_*_{path.stem}.*"):
            weights.unlink()
