"""Doing several steps at once: while one item is computed the next is read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_LOOK = 0.1  # seconds between looks at whether the consumer is still there


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(
    items: Iterable[T],
    depth: int = 2,
    name: str | None = None,
    alone: Callable[[T], bool] | None = None,
) -> Generator[T, None, None]:
    """Yields `items` in order while a thread makes the next ones.

    Args:
        items: Consumed in the thread; its error is raised here, at its place.
        depth: How many items may wait.
        name: Of the thread.
        alone: Whether an item is so large that the next one is not made before it is
            taken.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | _End) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def work() -> None:
        end = _End()
        try:
            for item in items:
                put(item)
                while alone and alone(item) and not waiting.empty():
                    if stop.wait(_LOOK):
                        return
                if stop.is_set():
                    return
        except BaseException as error:  # raised again where it is awaited
            end = _End(error)
        put(end)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()
