"""Random numbers as a function of a position: no generator, hence no state to save.

A sample's crop and augmentation follow from one number, so a resumed run, any number
of workers and any order of reading give the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STEP = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio
_MASK = (1 << 64) - 1


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014); wraps on purpose."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seeds: Sequence[int], count: int) -> np.ndarray:
    """Returns `count` numbers in [0, 1) for each seed, (len(seeds), count), float64."""
    start = _mixed(np.asarray([s & _MASK for s in seeds], dtype=np.uint64))
    steps = np.asarray([(j + 1) * _STEP & _MASK for j in range(count)], np.uint64)
    bits = _mixed(start[:, None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
