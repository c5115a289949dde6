"""MATLAB's imresize: against the definition, the host's port, and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from common import image

from paragon_archs.utils import resize
from paragon_archs.utils.resize import imresize

SCALES = [2, 3, 4, 8, 1 / 2, 1 / 3, 1 / 4, 1 / 8, 0.7, 1.3]
SIZES = [(37, 53), (64, 97), (96, 64)]


def _by_definition(signal: np.ndarray, scale: float, antialias: bool) -> np.ndarray:
    """One axis in plain Python, pixel by pixel, as MATLAB documents it (from 1)."""
    n = len(signal)
    wide = scale if antialias and scale < 1 else 1.0
    mirrored = list(range(n)) + list(range(n - 1, -1, -1))
    out = []
    for i in range(1, math.ceil(n * scale) + 1):
        center = i / scale + 0.5 * (1 - 1 / scale)
        total = value = 0.0
        for j in range(math.floor(center - 2 / wide) - 1, math.ceil(center + 2 / wide)):
            t = abs(center - j) * wide
            if t <= 1:
                weight = 1.5 * t**3 - 2.5 * t**2 + 1
            elif t <= 2:
                weight = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            else:
                weight = 0.0
            total += weight
            value += weight * signal[mirrored[(j - 1) % (2 * n)]]
        out.append(value / total)
    return np.array(out)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("scale", SCALES)
def test_is_the_definition(scale, antialias):
    x = image(1, 1, 23, 11, dtype=torch.float64)
    rows = np.apply_along_axis(_by_definition, 0, x[0, 0].numpy(), scale, antialias)
    both = np.apply_along_axis(_by_definition, 1, rows, scale, antialias)
    got = imresize(x, scale, antialias=antialias)
    np.testing.assert_allclose(got[0, 0].numpy(), both, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [s for s in SCALES if s >= 2 or s <= 0.5])
def test_equals_the_host(scale, size):
    matlab = pytest.importorskip(
        "basicsr.utils.matlab_functions", reason="BasicSR is not installed"
    )
    x = image(2, 3, *size)
    want = torch.stack([matlab.imresize(one, scale) for one in x])
    torch.testing.assert_close(imresize(x, scale), want, rtol=0, atol=1e-5)


def test_known_weights():
    # MATLAB: imresize([0 0 0 1 0 0 0 0], 0.5) and imresize([0 1 0], 2), by hand from
    # the kernel: cubic(0.25) = 0.8671875, cubic(0.75) = 0.2265625, ...
    step = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    step[..., 3] = 1
    half = imresize(step, size=(1, 4))[0, 0, 0]
    # The second output sits a quarter of its own pitch from the impulse.
    assert half[1].item() == pytest.approx(0.8671875 / 2, abs=1e-12)
    assert half[2].item() == pytest.approx(0.2265625 / 2, abs=1e-12)
    dot = torch.tensor([0, 1, 0], dtype=torch.float64)[None, None, None]
    double = imresize(dot, size=(1, 6))[0, 0, 0]
    assert double[2].item() == pytest.approx(0.8671875, abs=1e-12)
    assert double[1].item() == pytest.approx(0.2265625, abs=1e-12)


def test_constant_and_ramp_survive():
    assert torch.allclose(
        imresize(torch.full((1, 3, 5, 2), 0.3, dtype=torch.float64), 1 / 4),
        torch.full((1, 3, 2, 1), 0.3, dtype=torch.float64),
    )
    ramp = torch.arange(40, dtype=torch.float64).expand(1, 1, 40, 40)
    up = imresize(ramp, 2)[0, 0, 20, 8:-8]
    assert torch.allclose(up.diff(), torch.full_like(up.diff(), 0.5))


def test_size_gives_each_axis_its_own_factor():
    x = image(1, 2, 20, 30, dtype=torch.float64)
    assert imresize(x, size=(10, 10)).shape == (1, 2, 10, 10)
    torch.testing.assert_close(imresize(x, size=(40, 60)), imresize(x, 2))
    assert imresize(x, 0.3).shape == (1, 2, 6, 9)
    torch.testing.assert_close(imresize(x, 1), x)


def test_blocks_do_not_show(monkeypatch):
    x = image(2, 3, 131, 67, dtype=torch.float64)
    cut = [imresize(x, s) for s in (0.25, 2, 0.7)]
    monkeypatch.setattr(resize, "_BLOCK", 10_000)
    resize._blocks.cache_clear()
    whole = [imresize(x, s) for s in (0.25, 2, 0.7)]
    resize._blocks.cache_clear()
    for a, b in zip(cut, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_batches_views_and_dtypes():
    x = image(3, 3, 24, 36)
    together = imresize(x, 0.5)
    alone = torch.cat([imresize(one[None], 0.5) for one in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    layout = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(imresize(layout, 0.5), together, rtol=0, atol=1e-6)
    turned = imresize(x.mT, 0.5).mT
    torch.testing.assert_close(turned, together, rtol=0, atol=1e-6)
    for dtype in (torch.float16, torch.bfloat16):
        low = imresize(x.to(dtype), 0.5)
        assert low.dtype == dtype
        want = imresize(x.to(dtype).float(), 0.5).to(dtype)
        assert torch.equal(low, want)


def test_serves_autograd_after_inference_mode():
    resize._blocks.cache_clear()
    x = image(1, 1, 12, 12)
    with torch.inference_mode():
        imresize(x, 0.5)
    x.requires_grad_()
    imresize(x, 0.5).sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(36, abs=1e-3)


@pytest.mark.parametrize(
    ("x", "arguments", "error"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"scale": 2}, TypeError),
        (np.zeros((1, 3, 8, 8)), {"scale": 2}, TypeError),
        (torch.zeros(3, 8, 8), {"scale": 2}, ValueError),
        (torch.zeros(1, 3, 0, 8), {"scale": 2}, ValueError),
        (torch.zeros(1, 3, 8, 8), {}, ValueError),
        (torch.zeros(1, 3, 8, 8), {"scale": 2, "size": (4, 4)}, ValueError),
        (torch.zeros(1, 3, 8, 8), {"scale": -1}, ValueError),
        (torch.zeros(1, 3, 8, 8), {"scale": 0}, ValueError),
        (torch.zeros(1, 3, 8, 8), {"size": (0, 4)}, ValueError),
    ],
)
def test_wrong_use_says_so(x, arguments, error):
    with pytest.raises(error, match="Expected"):
        imresize(x, **arguments)
