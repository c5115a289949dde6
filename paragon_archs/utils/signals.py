"""Ctrl-C and SIGTERM: finish the step, save, then go."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """Notes that someone asked the run to stop; a second time stops at once.

    Used as a context; `number` is the signal's, 0 before there is one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._former[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: its owner handles signals
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
