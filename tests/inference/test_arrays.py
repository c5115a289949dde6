"""`Upscaler.image`: arrays of every layout, and the network's own values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import pattern, randomise

import paragon_archs
from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.inference import Upscaler
from paragon_archs.utils.halves import all_finite


def test_pixels_are_the_networks(plain, upscaler):
    array = pattern(10, 12, 3)
    x = torch.from_numpy(array.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        wanted = load_model(plain).model(x)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    got = upscaler.image(array)
    assert np.abs(got / 255 - wanted).max() <= 0.5 / 255 + 1e-5
    np.testing.assert_allclose(
        upscaler.image((array / 255).astype(np.float32)), wanted, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 1), (7, 9, 2), (7, 9, 3), (7, 9, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_keep_their_layout(upscaler, shape, dtype):
    array = np.full(shape, 1 if dtype == np.float32 else 77, dtype)
    out = upscaler.image(array)
    assert out.dtype == dtype
    assert out.shape == (14, 18, *shape[2:])


def test_arrays_of_other_kinds_are_refused(upscaler):
    with pytest.raises(ValueError, match="shape"):
        upscaler.image(np.zeros((3, 3, 5), np.uint8))
    with pytest.raises(ValueError, match="int64"):
        upscaler.image(np.zeros((3, 3, 3), np.int64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_no_numbers_are_seen(dtype):
    x = torch.full((1, 3, 40, 50), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite(x)  # though their sum is not
    for bad in ([torch.nan], [torch.inf], [-torch.inf], [torch.inf, -torch.inf]):
        y = torch.zeros_like(x)
        y.view(-1)[7 : 7 + len(bad)] = torch.tensor(bad, dtype=dtype)
        assert not all_finite(y)


@pytest.mark.parametrize("in_chans", [1, 4])
def test_networks_of_other_channel_counts(in_chans, tmp_path):
    model = paragon_archs.create(
        "paragonsr_nano", 2, in_chans=in_chans, num_groups=1, num_blocks=1
    )
    file = tmp_path / "m.safetensors"
    save_model(randomise(model), file, {})
    upscaler = Upscaler(file, "cpu")
    for channels in (1, 3, 4):
        array = pattern(6, 7, channels)
        assert upscaler.image(array).shape == (12, 14, channels)


def test_no_dark_fringe_around_clear_pixels(tmp_path):
    """A white disk on clear black: every visible pixel stays as bright as before."""
    flat = Upscaler(load_bicubic(tmp_path), "cpu")
    y, x = np.mgrid[:24, :24] - 11.5
    inside = (x**2 + y**2 < 64).astype(np.uint8) * 255
    array = np.dstack([inside, inside, inside, inside])
    out = flat.image(array)
    visible = out[..., 3] > 8
    assert visible.any()
    assert out[visible][:, :3].min() >= 250


def load_bicubic(tmp_path):
    """A network that only blurs while it upscales, so that edges become soft."""
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    state = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    for c in range(3):
        state["conv_in.weight"][c, c] = 1 / 9  # a box blur
        state["conv_out.weight"][c, c, 1, 1] = 1
        for sub in range(4):
            state["upsampler.0.weight"][4 * c + sub, c, 1, 1] = 1
    model.load_state_dict(state)
    file = tmp_path / "blur.safetensors"
    save_model(model, file, {})
    return file
