"""PSNR, SSIM and luma are the field's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from quality_common import picture, tensor

from paragon_archs.evaluation.measures import gray, luma, psnr, quantize, shave, ssim


def test_measures_equal_the_host():
    psnr_ssim = pytest.importorskip(
        "basicsr.metrics.psnr_ssim", reason="BasicSR is not installed"
    )
    a, b = picture(60, 71), picture(60, 71, seed=1)
    b = (0.8 * a + 0.2 * b).astype(np.uint8)
    for y, border in ((False, 0), (False, 3), (True, 4)):
        ours = [tensor(i).double() for i in (a, b)]
        ours = [shave(luma(i) if y else i, border) for i in ours]
        theirs = [np.ascontiguousarray(i[..., ::-1]) for i in (a, b)]
        arguments = {"crop_border": border, "test_y_channel": y}
        want = psnr_ssim.calculate_psnr(*theirs, **arguments)
        assert psnr(*ours) == pytest.approx(want, abs=1e-4)
        want = psnr_ssim.calculate_ssim(*theirs, **arguments)
        assert ssim(*ours) == pytest.approx(want, abs=1e-6)


def test_measures_equal_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = picture(50, 64), picture(50, 64, seed=3)
    x, y = tensor(a).double(), tensor(b).double()
    want = metrics.peak_signal_noise_ratio(a, b, data_range=255)
    assert psnr(x, y) == pytest.approx(want, abs=1e-9)
    ga, gb = gray(x), gray(y)
    _, full = metrics.structural_similarity(
        ga[0].numpy(),
        gb[0].numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert ssim(ga, gb) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


def test_measures_at_the_edges():
    a = torch.full((3, 16, 16), 7.0)
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1)
    black, white = torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255.0)
    assert psnr(black, white) == pytest.approx(0)
    assert luma(black).unique().item() == pytest.approx(16)
    assert luma(white).unique().item() == pytest.approx(235)
    assert gray(white).unique().item() == pytest.approx(255)
    assert quantize(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(black, white)
    with pytest.raises(ValueError, match="one shape"):
        psnr(black, a)
    with pytest.raises(ValueError, match="twice the border"):
        shave(black, 2)
