"""A line on stderr that says which step of long work is under way, and for how long."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator

_WIDTH = 60


class _Latest(logging.Handler):
    """Keeps the latest message."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.message = first

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage()


@contextlib.contextmanager
def reported(room: str, first: str) -> Iterator[None]:
    """Prints the steps that a room logs: each second on a terminal, else every ten.

    Args:
        room: Whose log it is, `export` say.
        first: The step before the first message.
    """
    steps, latest = logging.getLogger(f"paragon_archs.{room}"), _Latest(first)
    done, start = threading.Event(), time.monotonic()
    on_terminal = sys.stderr.isatty()

    def report() -> None:
        while not done.wait(1 if on_terminal else 10):
            line = f"{latest.message}, {time.monotonic() - start:.0f} s"
            line = f"\r{line:<{_WIDTH}}" if on_terminal else f"{line}\n"
            print(line, end="", file=sys.stderr, flush=True)

    level = steps.level
    steps.addHandler(latest)
    steps.setLevel(logging.INFO)
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
        if on_terminal:
            print(f"\r{'':<{_WIDTH}}\r", end="", file=sys.stderr, flush=True)
        steps.removeHandler(latest)
        steps.setLevel(level)
