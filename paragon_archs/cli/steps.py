"""Steps that a room logs, as progress: what is under way, and for how long."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..utils.progress import Task, task


class _Names(logging.Handler):
    """Calls a task by the latest message."""

    def __init__(self, named: Task) -> None:
        super().__init__()
        self.named = named

    def emit(self, record: logging.LogRecord) -> None:
        self.named.rename(record.getMessage())


@contextlib.contextmanager
def reported(room: str, first: str) -> Iterator[None]:
    """Counts the steps that a room logs, for whoever shows progress.

    Args:
        room: Whose log it is, `export` say.
        first: The step before the first message.
    """
    steps = logging.getLogger(f"paragon_archs.{room}")
    level = steps.level
    with task(first) as counted:
        handler = _Names(counted)
        steps.addHandler(handler)
        steps.setLevel(logging.INFO)
        try:
            yield
        finally:
            steps.removeHandler(handler)
            steps.setLevel(level)
