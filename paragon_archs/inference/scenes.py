"""Scene cuts: where what was seen before must not be blended in any more.

A cut changes the picture's structure and its brightness distribution at once. A flash
or a fade changes brightness alone (structure is compared without gain and offset), a
pan moves structure that is found again a little aside.
"""

from __future__ import annotations

import numpy as np

_WIDE, _HIGH = 48, 27  # of the thumbnails that structure is compared on
_REACH = 4  # pixels of a thumbnail that a pan may move in one frame
_BINS = 32
# Standard deviations under which a thumbnail has no structure, and faint structure.
_FLAT, _FAINT = 1.5 / 255, 10 / 255
# Below this correlation, and above this difference of histograms, it is a cut; one of
# them alone needs to be far beyond.
_STRUCTURE, _HISTOGRAM = 0.6, 0.12
_NO_STRUCTURE, _SLIGHT = 0.3, 0.04


class SceneCuts:
    """Looks at frames in order and says which ones start a scene."""

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def starts(self, frame: np.ndarray) -> bool:
        """Whether a frame starts a scene; the first one does.

        Args:
            frame: (H, W, 1 or 3), uint8 or uint16.
        """
        now = _thumbnail(frame), _histogram(frame)
        before, self._before = self._before, now
        if before is None:
            return True
        histogram = 0.5 * float(np.abs(now[1] - before[1]).sum())
        if histogram < _SLIGHT:
            return False
        structure = _likeness(before[0], now[0])
        if structure < _NO_STRUCTURE:
            return True
        return structure < _STRUCTURE and histogram > _HISTOGRAM


def _luma(frame: np.ndarray) -> np.ndarray:
    """Returns brightness in [0, 1], from few enough pixels to be quick."""
    step = max(1, min(frame.shape[0] // 135, frame.shape[1] // 240))
    small = frame[::step, ::step].astype(np.float32) / np.iinfo(frame.dtype).max
    if small.shape[2] == 1:
        return small[..., 0]
    return small @ np.array([0.299, 0.587, 0.114], np.float32)


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    luma = _luma(frame)
    rows = np.linspace(0, luma.shape[0], min(_HIGH, luma.shape[0]) + 1).astype(int)
    columns = np.linspace(0, luma.shape[1], min(_WIDE, luma.shape[1]) + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(luma, rows[:-1], 0), columns[:-1], 1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def _histogram(frame: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(_luma(frame), _BINS, (0, 1))
    # Smoothed, so that a value on the edge of two bins does not count as a change.
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), "same")
    return smooth / max(smooth.sum(), 1)


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest correlation of two thumbnails over small shifts, -1 to 1."""
    best = -1.0
    height, width = a.shape
    for dy in range(-min(_REACH, height // 4), min(_REACH, height // 4) + 1):
        for dx in range(-min(_REACH, width // 4), min(_REACH, width // 4) + 1):
            one = a[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
            two = b[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
            best = max(best, _correlation(one, two))
    return best


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(a.std()), float(b.std())
    if min(spread) < _FLAT:
        # A flat frame has no structure: the end of a fade if the other is faint.
        return 1.0 if max(spread) < _FAINT else 0.0
    return float((a * b).mean()) / (spread[0] * spread[1])
