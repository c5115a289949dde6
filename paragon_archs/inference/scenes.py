"""Scene cuts: where what was seen before must not be blended in any more.

A cut changes the picture's structure and its brightness distribution at once, or the
detail of many of its blocks: one page of text is like the next in all but that. A flash
or a fade changes brightness alone (structure is compared without gain and offset), a
pan moves structure that is found again aside.
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
# Detail is compared on about this many pixels, in blocks; from this share of changed
# blocks on it is a cut. What else changes as much (a fast zoom) has nothing to blend.
_DETAIL = 320, 180
_BLOCK = 16
_MARKED = 24 / 255  # standard deviation of a block with detail, well above noise
_SAME, _CHANGED = 0.5, 0.4


class SceneCuts:
    """Looks at frames in order and finds the ones that start a scene."""

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def starts(self, frame: np.ndarray) -> bool:
        """Whether a frame starts a scene; the first one does.

        Args:
            frame: (H, W, 1 or 3), uint8 or uint16.
        """
        now = _thumbnail(frame), _histogram(frame), _detail(frame)
        before, self._before = self._before, now
        if before is None:
            return True
        histogram = 0.5 * float(np.abs(now[1] - before[1]).sum())
        in_place = _correlation(before[0], now[0])
        if histogram >= _SLIGHT or in_place < _NO_STRUCTURE:
            structure = _likeness(before[0], now[0])
            if structure < _NO_STRUCTURE:
                return True
            if structure < _STRUCTURE and histogram > _HISTOGRAM:
                return True
        return _changed(before[2], now[2]) > _CHANGED


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
            one, two = _overlap(a, b, dy, dx)
            best = max(best, _correlation(one, two))
    return best


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(a.std()), float(b.std())
    if min(spread) < _FLAT:
        # A flat frame has no structure: the end of a fade if the other is faint.
        return 1.0 if max(spread) < _FAINT else 0.0
    return float((a * b).mean()) / (spread[0] * spread[1])


def _detail(frame: np.ndarray) -> np.ndarray:
    """Returns brightness in [0, 1] with as much detail as text needs."""
    step = max(1, min(frame.shape[1] // _DETAIL[0], frame.shape[0] // _DETAIL[1]))
    fine = max(1, step // 2)  # of large frames, every other pixel or fewer
    small = frame[::fine, ::fine]
    luma = np.zeros(small.shape[:2], np.uint32)
    for channel in range(small.shape[2]):
        luma += small[..., channel]
    scale = np.float32(1 / (np.iinfo(frame.dtype).max * small.shape[2]))
    if step == 1:
        return luma * scale
    height, width = (side // 2 * 2 for side in luma.shape)
    luma = luma[:height, :width]
    pooled = luma[::2, ::2] + luma[1::2, ::2] + luma[::2, 1::2] + luma[1::2, 1::2]
    return pooled * (scale / 4)


def _changed(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of blocks with detail that is not found again in its place, nor
    where the whole picture has moved to, 0 to 1."""
    if a.shape != b.shape:
        return 1.0
    share = _share(a, b)
    if share <= _CHANGED:
        return share
    dy, dx = _moved(a, b)
    if 3 * abs(dy) < a.shape[0] and 3 * abs(dx) < a.shape[1]:
        a, b = _overlap(a, b, dy, dx)
        share = min(share, _share(a, b))
    return share


def _share(a: np.ndarray, b: np.ndarray) -> float:
    same, detailed = _compared(a, b)
    return 1 - float(same[detailed].mean()) if detailed.sum() > 3 else 0.0


def _compared(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns of each block whether its detail is the same, and whether it has any."""
    one, two = _blocks(a), _blocks(b)
    one, two = one - one.mean(1, keepdims=True), two - two.mean(1, keepdims=True)
    spread = one.std(1), two.std(1)
    likeness = (one * two).mean(1) / np.maximum(spread[0] * spread[1], 1e-9)
    flat = np.minimum(*spread) < _FLAT
    return (likeness >= _SAME) & ~flat, np.maximum(*spread) > _MARKED


def _blocks(a: np.ndarray) -> np.ndarray:
    """Returns (blocks, pixels) of (H, W); what is left over at the edges is cut."""
    size = min(_BLOCK, *a.shape)
    rows, columns = a.shape[0] // size, a.shape[1] // size
    a = a[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return a.swapaxes(1, 2).reshape(rows * columns, size * size)


def _moved(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Returns how far b lies from a, by phase correlation."""
    cross = np.fft.rfft2(a - a.mean()) * np.fft.rfft2(b - b.mean()).conj()
    peaks = np.fft.irfft2(cross / (np.abs(cross) + 1e-3), a.shape)
    at = np.unravel_index(int(peaks.argmax()), a.shape)
    dy, dx = (int(p) - n * (2 * int(p) > n) for p, n in zip(at, a.shape, strict=True))
    return dy, dx


def _overlap(
    a: np.ndarray, b: np.ndarray, dy: int, dx: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what two pictures share when one lies (dy, dx) aside."""
    height, width = a.shape
    one = a[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    two = b[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    return one, two
