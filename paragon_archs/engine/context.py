"""What a run knows beside its options: processes, seed, device, folders, resume."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config.errors import wrong
from ..config.frozen import Frozen, RunOptions, freeze
from ..utils.processes import init_processes, leave_processes, of_first
from .folders import Folders, close_log, open_log

logger = logging.getLogger("basicsr")


@dataclass(frozen=True)
class RunContext:
    """A run's surroundings.

    Attributes:
        options: Checked, frozen.
        distributed: Whether a launcher has started it.
        rank: Which of the processes this is.
        world_size: How many there are.
        seed: Of everything; drawn, where the option file gives none.
        device: Where the network computes.
        folders: Where it writes.
    """

    options: RunOptions
    distributed: bool
    rank: int
    world_size: int
    seed: int
    device: torch.device
    folders: Folders

    @property
    def first(self) -> bool:
        """True in the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Waits for the other processes."""
        if self.distributed:
            torch.distributed.barrier()

    def resumed(self, position: Mapping[str, object]) -> RunContext:
        """Returns the context of a resumed run, which keeps its state's seed."""
        seed = position.get("seed", self.seed)
        given = self.options.sections.manual_seed
        if given is not None and given != seed:
            logger.warning(
                "Resuming with the state's manual_seed %s instead of %s: the order of "
                "the samples goes on.",
                seed,
                given,
            )
        return dataclasses.replace(self, seed=seed)

    def host_options(self, **own: Any) -> Frozen:
        """Returns the one dict that BasicSR's classes demand: options and this.

        Args:
            **own: More entries; a dict is merged into the section of that name.
        """
        values = dict(self.options.values)
        for name, entry in own.items():
            merged = isinstance(entry, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **entry} if merged else entry
        return freeze(
            {
                **values,
                "manual_seed": self.seed,
                "dist": self.distributed,
                "rank": self.rank,
                "world_size": self.world_size,
            }
        )


@contextlib.contextmanager
def run_context(
    arguments: argparse.Namespace, options: RunOptions
) -> Iterator[RunContext]:
    """Joins the other processes, seeds this one, opens the log; undoes it at the end.

    Raises:
        OptionError: when the launcher did not set its environment variables.
    """
    values = options.values
    try:
        rank, world = init_processes(
            arguments.launcher, values.get("dist_params") or {}
        )
    except ValueError as error:
        raise wrong("launcher", problem=error) from error
    try:
        distributed = arguments.launcher != "none"
        open_log(rank)
        path = {k: Path(v) for k, v in values["path"].items() if isinstance(v, str)}
        root = path["log"]
        yield RunContext(
            options,
            distributed,
            rank,
            world,
            seed_processes(options.sections.manual_seed, rank, distributed),
            torch.device("cuda" if values["num_gpu"] != 0 else "cpu"),
            Folders(
                root,
                path["visualization"],
                path.get("models", root / "models"),
                path.get("training_states", root / "training_states"),
            ),
        )
    finally:
        leave_processes()
        close_log()


def seed_processes(seed: int | None, rank: int, distributed: bool) -> int:
    """Seeds this process; draws a seed, the same for all, where none is given."""
    if seed is None:
        seed = of_first(random.randint(1, 10000), distributed)
    own = seed + rank
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)
    return seed
