"""Which rows of the image a strip makes, and which it reads."""

from __future__ import annotations

from dataclasses import dataclass

from ..deploy.leaf import Rule
from .maps import Span
from .plan import Stage


@dataclass(frozen=True)
class Strip:
    """Which rows a strip makes and which it reads.

    Attributes:
        own: Rows that it makes; two spans where shifted windows wrap around.
        spans: Rows that it reads, margins included.
        next: Where the next strip starts.
        done: Rows that no later strip of the stage reads.
        wraps: Whether it holds the windows that the top and the bottom share.
        padded: Rows of padding behind the first span and behind the second, and
            whether rows from the bottom stand before them.
    """

    own: list[Span]
    spans: list[Span]
    next: int
    done: list[Span]
    wraps: bool = False
    padded: tuple[int, int, bool] = (0, 0, False)


def strips_end(height: int, window: Rule | None) -> int:
    """Returns where the last strip ends: shifted windows count padded rows."""
    if window is None or not window.shift:
        return height
    return height + -height % window.window


def strip_at(at: int, rows: int, height: int, stage: Stage) -> Strip:
    """Returns the strip that starts at `at` (counted from the shift in windows)."""
    if stage.window is None:
        own = (at, min(at + rows, height))
        low, high = max(0, at - stage.margin), min(height, own[1] + stage.margin)
        done = [(0, max(0, own[1] - stage.margin))]
        return Strip([own], [(low, high)], own[1], done)
    side, shift = stage.window.window, stage.window.shift
    rows = max(side, rows // side * side)
    if not shift:
        own = (at, min(at + rows, height))
        return Strip([own], [own], own[1], [(0, own[1])])
    whole = height + -height % side
    stop = min(at + rows, whole)
    # Rows of the padded image, from the shift on; what lies behind its end is the top.
    first, last = at + shift, stop + shift
    low, high = min(first, height), min(last, height)
    between = max(0, min(last, whole) - max(first, height))
    if last <= whole:
        padded = (between, 0, True)
        return Strip([(low, high)], [(low, high)], stop, [(shift, high)], False, padded)
    top: Span = (0, min(last - whole, height))
    spans: list[Span] = [(low, high), top] if low < high else [top]
    padded = (between, max(0, last - whole - height), low < high)
    return Strip(spans, spans, stop, [(0, height)], True, padded)
