"""A run's folders and its log."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path

from basicsr.utils.logger import initialized_logger

from ..config.errors import wrong
from ..utils.locks import HeldError, Lock

logger = logging.getLogger("basicsr")

FORM = logging.Formatter("%(asctime)s %(levelname)s: %(message)s")


@dataclass(frozen=True)
class Folders:
    """Where a run writes; a test run has neither `models` nor `states`."""

    root: Path
    visualization: Path
    models: Path
    states: Path


def check_unlocked(folders: Folders, name: str) -> None:
    """Makes sure that no other run holds a run's folder; creates nothing.

    Raises:
        OptionError: when another process runs under this name.
    """
    with _unheld(folders, name):
        _lock_of(folders).check()


def make_folders(folders: Folders, name: str, training: bool, keep: bool) -> Lock:
    """Makes the run's folders; a former run of that name is renamed, unless `keep`.

    Returns:
        The lock on them; whoever calls releases it.

    Raises:
        OptionError: when another process runs under this name.
    """
    lock, root = _lock_of(folders), folders.root
    with _unheld(folders, name):
        lock.check()
        if root.exists() and not keep:
            stamp = time.strftime("%Y%m%d_%H%M%S")
            _own(root.with_name(f"{root.name}_archived_{stamp}"), root.rename)
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    made = [folders.visualization]
    made += [folders.models, folders.states] if training else []
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    return lock


def _lock_of(folders: Folders) -> Lock:
    return Lock(folders.root / "run.lock")


@contextlib.contextmanager
def _unheld(folders: Folders, name: str) -> Iterator[None]:
    try:
        yield
    except HeldError as error:
        raise wrong(
            "running", value=name, folder=str(folders.root), holder=error.holder
        ) from error


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


def open_log(rank: int) -> None:
    """Sends the host's log to the terminal, and keeps it for `write_log` (rank 0)."""
    close_log()  # of an earlier run in this process
    initialized_logger["basicsr"] = True  # the host shall not add its own
    logger.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if rank == 0:
        # Nothing is written before data and model stand: a mistake leaves no trace.
        handlers.append(MemoryHandler(10**5, logging.CRITICAL + 1, flushOnClose=False))
    for handler in handlers:
        handler.setFormatter(FORM)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if rank == 0 else logging.ERROR)


def write_log(folder: Path, name: str, training: bool, option_file: Path) -> None:
    """Writes the log so far, and from now on, into the run's folder (rank 0 only)."""
    kept = [h for h in logger.handlers if isinstance(h, MemoryHandler)]
    if not kept:
        return
    kind = "train" if training else "test"
    stamp = time.strftime("%Y%m%d_%H%M%S")
    file_name = f"{kind}_{name}_{stamp}.log"
    path = _own(folder / file_name, lambda new: new.touch(exist_ok=False))
    file = logging.FileHandler(path)
    file.setFormatter(FORM)
    kept[0].setTarget(file)
    kept[0].flush()
    logger.removeHandler(kept[0])
    logger.addHandler(file)
    shutil.copyfile(option_file, folder / option_file.name)
    command = shlex.join(sys.argv)
    (folder / "command.txt").write_text(f"{command}\n", encoding="utf-8")
