"""How commands show progress: a bar, lines for logs, JSON for programs, nothing."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from ..utils.progress import Task, shown_by

MODES = ("auto", "bar", "json", "none")
_QUIET = 2.0  # seconds that need no display
_LINE_EVERY = 60.0  # seconds between lines on a pipe
_JSON_EVERY = 0.25


class Lines:
    """One line a minute, for logs and pipes."""

    def __init__(self, out: TextIO, every: float = _LINE_EVERY) -> None:
        self.out, self.every = out, every
        self._last = time.monotonic()

    def update(self, whole: Task) -> None:
        now = time.monotonic()
        if now - self._last >= self.every:
            self._last = now
            print(line(whole), file=self.out, flush=True)

    def close(self, whole: Task) -> None:
        pass


class Bar:
    """One line that is drawn anew, on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._last = 0.0
        self._drawn = False

    def update(self, whole: Task) -> None:
        now = time.monotonic()
        if whole.seconds < _QUIET or now - self._last < 0.1:
            return
        self._last, self._drawn = now, True
        share = whole.fraction
        bar = ""
        if share is not None:
            bar = "█" * int(24 * share) + "░" * (24 - int(24 * share)) + " "
        self.out.write(f"\r\033[K{bar}{line(whole)}")
        self.out.flush()

    def close(self, whole: Task) -> None:
        if self._drawn:
            self.out.write("\r\033[K")
            self.out.flush()
            self._drawn = False


class JsonLines:
    """One JSON object a line on stderr: task, done, total, unit, fraction, eta."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._last = 0.0

    def update(self, whole: Task) -> None:
        now = time.monotonic()
        if now - self._last >= _JSON_EVERY:
            self._last = now
            self._print(whole)

    def close(self, whole: Task) -> None:
        self._print(whole, ended=True)

    def _print(self, whole: Task, **more: object) -> None:
        shown = whole.shown
        share, eta = whole.fraction, whole.eta
        found = {
            "task": whole.name,
            "done": shown.done,
            "total": shown.total,
            "unit": shown.unit,
            "fraction": None if share is None else round(share, 4),
            "seconds": round(whole.seconds, 2),
            "eta": None if eta is None else round(eta, 1),
        }
        print(json.dumps(found | more), file=self.out, flush=True)


def line(whole: Task) -> str:
    """Returns where a task stands: `upscale 42%, 10 of 24 images, 0:12, 0:16 left`."""
    shown, share, eta = whole.shown, whole.fraction, whole.eta
    parts = [whole.name if share is None else f"{whole.name} {share:.0%}"]
    if shown.total and shown.unit:
        plural = "s" * (shown.total != 1)
        parts.append(f"{shown.done:g} of {shown.total:g} {shown.unit}{plural}")
    parts.append(_clock(whole.seconds))
    if eta is not None:
        parts.append(f"{_clock(eta)} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def add_progress(arguments: argparse.ArgumentParser) -> None:
    """Adds the flags that say how progress is shown."""
    arguments.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        help="a bar on a terminal and a line a minute elsewhere (auto); JSON lines on "
        "stderr; none",
    )
    arguments.add_argument(
        "-q", "--quiet", action="store_true", help="print errors and warnings only"
    )


@contextlib.contextmanager
def progress(options: argparse.Namespace) -> Iterator[None]:
    """Shows the work inside as the flags of `add_progress` ask, if there are such."""
    mode = getattr(options, "progress", "auto")
    if mode == "auto" and getattr(options, "quiet", False):
        mode = "none"
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "lines"
    kinds = {"bar": Bar, "json": JsonLines, "lines": Lines}
    with shown_by(kinds[mode](sys.stderr) if mode in kinds else None):
        yield
