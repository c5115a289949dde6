"""Drawn pictures: of every kind, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paragon_archs.utils.drawings import drawing, page


@pytest.mark.parametrize("draw", [drawing, page])
def test_they_follow_their_seed(draw):
    def all_of(seed):
        rng = np.random.default_rng(seed)
        return [draw(rng, 96, 2) for _ in range(12)]

    first = all_of(0)
    assert all(torch.equal(a, b) for a, b in zip(first, all_of(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, all_of(1), strict=True))
    assert all(d.shape == (3, 96, 96) and d.dtype == torch.uint8 for d in first)


def test_they_are_of_every_kind():
    rng = np.random.default_rng(0)
    colors = [len(drawing(rng, 96, 2).flatten(1).unique(dim=1).T) for _ in range(12)]
    assert min(colors) == 2 and max(colors) > 100  # stripes, and noise
    grounds = []
    for _ in range(12):
        picture = page(rng, 96, 2).flatten(1).T
        values, counts = picture.unique(dim=0, return_counts=True)
        grounds.append(float(counts.max() / counts.sum()))
        assert len(values) > 1 or grounds[-1] == 1
    assert min(grounds) < 0.9 < max(grounds)  # dense ones, and nearly empty ones
