"""A run's folders and its log."""

from __future__ import annotations

import contextlib
import logging
import random
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils.logger import initialized_logger

from ..config.errors import wrong
from ..utils.locks import HeldError, Lock

logger = logging.getLogger("basicsr")

FORM = logging.Formatter("%(asctime)s %(levelname)s: %(message)s")


def lock_of(opt: Mapping[str, Any]) -> Lock:
    """Returns the lock that a run holds on its folder."""
    return Lock(Path(opt["path"]["log"], "run.lock"))


@contextlib.contextmanager
def unheld(opt: Mapping[str, Any]) -> Iterator[None]:
    """Turns a lock that another run holds into a sentence.

    Raises:
        OptionError: when another process runs under this name.
    """
    try:
        yield
    except HeldError as error:
        raise wrong(
            "running", value=opt["name"], folder=opt["path"]["log"], holder=error.holder
        ) from error


def make_folders(opt: dict[str, Any], keep: bool) -> Lock:
    """Makes the run's folders; a former run of that name is renamed, unless `keep`.

    Returns:
        The lock on them; whoever calls releases it.

    Raises:
        OptionError: when another process runs under this name.
    """
    path, lock = opt["path"], lock_of(opt)
    folder = Path(path["log"])
    with unheld(opt):
        lock.check()
        if folder.exists() and not keep:
            stamp = time.strftime("%Y%m%d_%H%M%S")
            _own(folder.with_name(f"{folder.name}_archived_{stamp}"), folder.rename)
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    for key in ("log", "visualization", "models", "training_states"):
        if key in path:
            Path(path[key]).mkdir(parents=True, exist_ok=True)
    return lock


def _own(path: Path, make: Callable[[Path], object]) -> Path:
    """Makes `path`, or one with a number where another run of that second has it."""
    number, result = 1, path
    while True:
        try:
            make(result)
            return result
        except OSError:
            if not result.exists():
                raise
        number += 1
        result = path.with_name(f"{path.stem}-{number}{path.suffix}")


def close_log() -> None:
    """Ends a run's log."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def open_log(opt: dict[str, Any]) -> None:
    """Sends the host's log to the terminal, and keeps it for `write_log` (rank 0)."""
    close_log()  # of an earlier run in this process
    initialized_logger["basicsr"] = True  # the host shall not add its own
    logger.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if opt["rank"] == 0:
        # Nothing is written before data and model stand: a mistake leaves no trace.
        handlers.append(MemoryHandler(10**5, logging.CRITICAL + 1, flushOnClose=False))
    for handler in handlers:
        handler.setFormatter(FORM)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if opt["rank"] == 0 else logging.ERROR)


def write_log(opt: dict[str, Any], option_file: Path) -> None:
    """Writes the log so far, and from now on, into the run's folder (rank 0 only)."""
    kept = [h for h in logger.handlers if isinstance(h, MemoryHandler)]
    if opt["rank"] != 0 or not kept:
        return
    kind = "train" if opt["is_train"] else "test"
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folder = Path(opt["path"]["log"])
    name = f"{kind}_{opt['name']}_{stamp}.log"
    path = _own(folder / name, lambda new: new.touch(exist_ok=False))
    file = logging.FileHandler(path)
    file.setFormatter(FORM)
    kept[0].setTarget(file)
    kept[0].flush()
    logger.removeHandler(kept[0])
    logger.addHandler(file)
    shutil.copyfile(option_file, folder / option_file.name)
    command = shlex.join(sys.argv)
    (folder / "command.txt").write_text(f"{command}\n", encoding="utf-8")


def seed_all(opt: dict[str, Any]) -> None:
    """Seeds this process; draws a seed, the same for all, where none is given."""
    if opt.get("manual_seed") is None:
        drawn = [random.randint(1, 10000)]
        if opt["dist"]:
            torch.distributed.broadcast_object_list(drawn)
        opt["manual_seed"] = drawn[0]
    seed = opt["manual_seed"] + opt["rank"]
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
