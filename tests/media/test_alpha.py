"""Transparent edges: colors grown from what is seen, opacity that stays in range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paragon_archs.inference import Upscaler, read_picture
from paragon_archs.media.alpha import fill_clear, keep_range
from paragon_archs.weights import available

CASES = Path(__file__).parent / "cases"


def nearest(pixels, visible):
    """Every pixel's nearest visible colors, by brute force: a set for each."""
    seeds = np.argwhere(visible)
    for at in np.argwhere(~visible):
        off = ((seeds - at) ** 2).sum(1)
        yield (
            tuple(at),
            {tuple(pixels[tuple(s)]) for s in seeds[off <= off.min() * 1.2]},
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_clear_pixels_take_the_nearest_color(dtype):
    rng = np.random.default_rng(0)
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    visible = rng.random((24, 31)) < 0.05
    pixels = (rng.random((24, 31, 3)) * most).astype(dtype)
    filled = fill_clear(pixels, np.where(visible, most, 0).astype(dtype))
    np.testing.assert_array_equal(filled[visible], pixels[visible])
    for at, colors in nearest(pixels, visible):
        assert tuple(filled[at]) in colors


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (200, 3)])
def test_any_shape_is_filled(shape):
    pixels = np.zeros((*shape, 1), np.uint8)
    pixels[0, 0] = 77
    alpha = np.zeros(shape, np.uint8)
    assert fill_clear(pixels, alpha) is pixels  # nothing can be seen
    alpha[0, 0] = 255
    assert (fill_clear(pixels, alpha) == 77).all()


def test_opacity_stays_what_it_is_where_it_is_flat():
    alpha = np.zeros((12, 16), np.uint8)
    alpha[:, 8:] = 255
    upscaled = np.full((24, 32), 0.5, np.float32)
    keep_range(upscaled, alpha)
    assert (upscaled[:, :12] == 0).all() and (upscaled[:, 20:] == 1).all()
    assert (upscaled[:, 14:18] == 0.5).all()


@pytest.mark.parametrize("model", sorted(available()))
def test_shipped_models_show_no_fringe(model):
    upscaler = Upscaler(model, "cpu")
    clear = upscaler.picture(read_picture(CASES / "F24_clear.png"))
    assert clear.alpha is not None and not clear.alpha.any()
    for name in ("F22_text.png", "F22_disk.png"):
        result = upscaler.picture(read_picture(CASES / name))
        assert result.alpha is not None
        seen = result.pixels[result.alpha > 8].astype(int)
        assert np.abs(seen - (200, 60, 20)).max() <= 16
