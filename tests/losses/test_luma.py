"""The error of luma."""

from __future__ import annotations

import pytest
import torch
from common import image

from paragon_archs.losses.luma_loss import LumaLoss


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_it_is_the_error_of_y(criterion):
    x, y = image(2, 3, 5, 6), image(2, 3, 5, 6, seed=1)
    gap = (x - y).movedim(1, -1) @ torch.tensor([0.299, 0.587, 0.114])
    want = gap.abs().mean() if criterion == "l1" else gap.square().mean()
    loss = LumaLoss(loss_weight=2.0, criterion=criterion)
    torch.testing.assert_close(loss(x, y), 2 * want)
    assert loss(x.half(), y.half()).dtype == torch.float32


def test_it_wants_rgb():
    with pytest.raises(
        ValueError, match="RGB images to compare the luma of, but got 1"
    ):
        LumaLoss()(image(1, 1, 4, 4), image(1, 1, 4, 4))
    with pytest.raises(ValueError, match="criterion"):
        LumaLoss(criterion="l3")
