"""Pictures continued by reflection where a network is wrong at its border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import pattern, randomise

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.borders import Border
from paragon_archs.inference.temporal import FrameUpscaler
from paragon_archs.weights import available

SHIPPED = available()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("size", [(48, 40), (9, 3), (1, 1)], ids=str)
def test_flat_pictures_stay_flat_to_their_border(name, size):
    """White was darker in its corners by 6 to 27 of 255; clear was not clear."""
    upscaler = Upscaler(SHIPPED[name], "cpu")
    for level in (0, 128, 255):
        out = upscaler.image(np.full((*size, 3), level, np.uint8)).astype(int)
        assert out.max() - out.min() <= 2, level
        assert abs(np.median(out) - level) <= 2
    clear = upscaler.image(np.zeros((*size, 4), np.uint8))
    assert clear[..., 3].max() == 0 and clear[..., :3].max() <= 2


def network(kind, folder):
    """Writes a small network at scale 2 that copies pixels, blurs, or is of noise."""
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    if kind == "noise":
        randomise(model)
    else:
        state = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
        for c in range(3):
            if kind == "copy":
                state["conv_in.weight"][c, c, 1, 1] = 1
            else:
                state["conv_in.weight"][c, c] = 1 / 9
            state["conv_out.weight"][c, c, 1, 1] = 1
            for place in range(4):
                state["upsampler.0.weight"][4 * c + place, c, 1, 1] = 1
        model.load_state_dict(state)
    file = folder / f"{kind}.safetensors"
    save_model(model, file, {})
    return file


@pytest.mark.parametrize(("kind", "width"), [("copy", 0), ("blur", 4), ("noise", 0)])
def test_only_networks_that_are_wrong_at_their_border_need_it(kind, width, tmp_path):
    upscaler = Upscaler(network(kind, tmp_path), "cpu")
    assert upscaler.border == Border(width)
    array = pattern(7, 11, 3)
    continued = np.pad(array, ((width, width), (width, width), (0, 0)), "symmetric")
    x = torch.from_numpy(continued.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        wanted = upscaler.runner.network(x)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    wanted = wanted[2 * width : 2 * (width + 7), 2 * width : 2 * (width + 11)]
    got = upscaler.image((array / 255).astype(np.float32))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["paragonsr2_stream_x2", "paragonsr_nano_x4"])
def test_strips_and_batches_are_the_whole_continued_picture(name):
    whole, strips = (
        Upscaler(SHIPPED[name], "cpu", memory=memory) for memory in ("auto", "1M")
    )
    frames = [pattern(70, 30, 3), pattern(70, 30, 3)[::-1].copy()]
    batched = FrameUpscaler(whole).frames(frames)
    for frame, other in zip(frames, batched, strict=True):
        result = whole.image(frame).astype(int)
        assert np.abs(result - strips.image(frame)).max() <= 1
        assert np.abs(result - other).max() <= 1


@pytest.mark.parametrize("memory", ["auto", "1M"])
def test_frames_that_carry_features_are_continued_too(memory):
    upscaler = Upscaler(SHIPPED["paragonsr2_stream_x2"], "cpu", memory=memory)
    worker = FrameUpscaler(upscaler, 0.2)
    for _ in range(3):
        (frame,) = worker.frames([np.full((20, 24, 3), 255, np.uint8)])
        assert frame.shape == (40, 48, 3) and frame.min() >= 253


@pytest.mark.parametrize("name", ["paragonsr2_realtime_x2", "paragonsr2_stream_x4"])
def test_half_precision_finds_the_same_border(name):
    upscaler = Upscaler(SHIPPED[name], "cpu", dtype="bf16")
    assert upscaler.border == Border(4)
    assert upscaler.image(np.full((20, 24, 3), 255, np.uint8)).min() >= 250
