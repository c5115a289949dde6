"""Steps that a room logs, as progress: what is under way, and for how long."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from ..utils.progress import Task, task


class _Names(logging.Handler):
    """Calls a task by the latest message."""

    def __init__(self, named: Task, shares: Sequence[float]) -> None:
        super().__init__()
        self.named, self._shares = named, iter(shares)

    def emit(self, record: logging.LogRecord) -> None:
        self.named.rename(record.getMessage(), next(self._shares, 0))


@contextlib.contextmanager
def reported(room: str, first: str, shares: Sequence[float]) -> Iterator[None]:
    """Counts the steps that a room logs, for whoever shows progress.

    Args:
        room: Whose log it is, `export` say.
        first: The step before the first message.
        shares: How much each step is of the whole, the one before the first message
            included; a task that opens inside them is worth 1.
    """
    steps = logging.getLogger(f"paragon_archs.{room}")
    level = steps.level
    with task(first, sum(shares), "") as counted:
        handler = _Names(counted, shares)
        steps.addHandler(handler)
        steps.setLevel(logging.INFO)
        try:
            yield
        finally:
            steps.removeHandler(handler)
            steps.setLevel(level)
