"""The PSNR of each image, as a loss."""

from __future__ import annotations

import pytest
from common import image

from paragon_archs.evaluation.measures import luma, psnr
from paragon_archs.losses.psnr_loss import PSNRLoss


@pytest.mark.parametrize("on_luma", [False, True])
def test_the_psnr_is_the_mean_over_images_as_it_is_measured(on_luma):
    x, y = image(2, 3, 5, 6), image(2, 3, 5, 6, seed=1)
    y[1] = 0.99 * x[1]  # the other image's error is some thousand times as large
    pairs = [(255 * a, 255 * b) for a, b in zip(x, y, strict=True)]
    if on_luma:  # Y of video range: 219 steps where R, G and B have 255
        pairs = [(luma(a) * 255 / 219, luma(b) * 255 / 219) for a, b in pairs]
    want = sum(float(psnr(a, b)) for a, b in pairs) / 2
    loss = PSNRLoss(loss_weight=2.0, luma=on_luma, floor=1e-12)(x, y)
    assert float(loss) == pytest.approx(-2 * want, rel=1e-4)


def test_the_floor_of_a_psnr_loss_bounds_it_and_its_gradient():
    x = image(1, 3, 5, 6).requires_grad_()
    loss = PSNRLoss(floor=1e-4)(x, x.detach().clone())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-40)
    assert x.grad is not None and not x.grad.any()


@pytest.mark.parametrize("floor", [0.0, -1e-4, float("nan")])
def test_a_floor_is_above_zero(floor):
    with pytest.raises(ValueError, match="floor of PSNRLoss to be above 0"):
        PSNRLoss(floor=floor)
