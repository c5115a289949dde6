"""Fusing what was trained: the average of the weights, after real steps."""

from __future__ import annotations

import torch
from common import image

import paragon_archs
from paragon_archs.engine.ema import Average
from paragon_archs.fuse import fuse_model


def test_fused_equals_training_form_after_100_steps_of_the_average():
    """A stored fused copy rots under EMA; ours is made from the average itself."""
    torch.manual_seed(0)
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_feat=16)
    model.double().train()
    average = Average(model, 0.99)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(100):
        target = image(2, 3, 12, 12, seed=step, dtype=torch.float64)
        loss = (model(target[..., ::2, ::2]) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
    x = image(1, 3, 9, 7, dtype=torch.float64)
    smooth = average.network(x)
    assert (smooth - model(x)).abs().max() > 1e-6  # an average, no copy
    fused = fuse_model(average.network)
    torch.testing.assert_close(fused(x), smooth, rtol=0, atol=1e-9)
