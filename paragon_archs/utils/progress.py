"""Progress of long work: the library counts, whoever called it may show.

    with task("upscale", total=len(files), unit="image") as work:
        for file in files:
            ...
            work.advance()

Nothing is shown unless a display is set, which the commands do (`shown_by`). The first
task that opens is the whole; tasks that open inside it, in any thread, are the parts
that are under way and refine its fraction: strips of one picture, frames of one video.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Display(Protocol):
    """Something that shows a task; called often, from any thread, one at a time."""

    def update(self, whole: Task) -> None:
        """Shows where the whole stands."""

    def close(self, whole: Task) -> None:
        """Shows that the whole has ended."""


_lock = threading.RLock()
_display: Display | None = None
_open: list[Task] = []  # the first is the whole


class Task:
    """Work that is counted, as a context.

    Attributes:
        name: What is done.
        total: How many units there are; None while nobody knows.
        unit: What is counted, in the singular.
        done: Units that are done.
    """

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self._best, self._risen = 0.0, 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Task:
        with _lock:
            _open.append(self)
            self._changed()
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            whole = _open[0]
            _open.remove(self)
            if self is whole and _display is not None:
                _display.close(self)

    def advance(self, units: float = 1) -> None:
        """Counts units that have been done."""
        with _lock:
            self.done += units
            self._changed()

    def rename(self, name: str, units: float = 1) -> None:
        """Names what is done from now on, and counts what has been done before it."""
        with _lock:
            self.name = name
            self.done += units
            self._changed()

    def _changed(self) -> None:
        if _display is not None:
            _ = _open[0].fraction  # which takes the time of each rise
            _display.update(_open[0])

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def fraction(self) -> float | None:
        """Share that is done, parts under way included; never falls."""
        if not self.total:
            return None
        parts = 0.0
        if _open and self is _open[0]:
            parts = sum(t.done / t.total for t in _open[1:] if t.total)
        share = min(1.0, (self.done + parts) / self.total)
        if share > self._best:
            self._best, self._risen = share, self.seconds
        return self._best

    @property
    def eta(self) -> float | None:
        """Seconds that are left at the mean speed so far; None once they are over."""
        share = self.fraction
        left = self._risen / share - self.seconds if share else -1.0
        return left if left >= 0 else None

    @property
    def shown(self) -> Task:
        """The task whose count shows most: the only part of a whole of one."""
        parts = [t for t in _open[1:] if t.total]
        return parts[0] if self.total == 1 and len(parts) == 1 else self


def task(name: str, total: float | None = None, unit: str = "step") -> Task:
    """Returns work to count; see the module."""
    return Task(name, total, unit)


def each(items: Sequence[T], name: str, unit: str) -> Iterator[T]:
    """Yields items and counts them, as a task of its own."""
    with task(name, len(items), unit) as counted:
        for item in items:
            yield item
            counted.advance()


@contextlib.contextmanager
def shown_by(display: Display | None, every: float = 1.0) -> Iterator[None]:
    """Shows the tasks of this process by `display` while the context lasts.

    Args:
        display: What shows them, or None.
        every: Seconds after which it is called though nothing has changed.
    """
    global _display  # noqa: PLW0603 (one terminal, one display)
    before, _display = _display, display
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every):
            with _lock:
                if _open and _display is not None:
                    _display.update(_open[0])

    clock = threading.Thread(target=tick, daemon=True)
    if display is not None:
        clock.start()
    try:
        yield
    finally:
        ended.set()
        if display is not None:
            clock.join()
        _display = before
