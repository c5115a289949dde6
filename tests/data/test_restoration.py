"""Light degradations: JPEG as libjpeg's, exact seeds, ranges."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from data_common import CPU, batch, make, write_pictures
from PIL import Image

pytest.importorskip("basicsr")

from paragon_archs.config.errors import OptionError
from paragon_archs.data.light_degradation import LightDegradation, blur, jpeg
from paragon_archs.data.restoration_dataset import RestorationImageDataset


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path)


def picture():
    y, x = np.mgrid[:75, :102]
    array = 120 + 60 * np.sin(x / 3.1) * np.cos(y / 4.7) + 40 * ((x + y) % 23 > 11)
    rgb = np.stack([array, 255 - array, np.roll(array, 9, 1)], -1)
    return rgb.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("quality", [25, 50, 75, 95])
def test_jpeg_is_libjpeg_s(quality, halved):
    source = picture()
    file = io.BytesIO()
    Image.fromarray(source).save(
        file, "JPEG", quality=quality, subsampling=2 if halved else 0
    )
    want = np.asarray(Image.open(file)).astype(float)
    x = torch.from_numpy(source).permute(2, 0, 1)[None] / 255
    both = jpeg(x.repeat(2, 1, 1, 1), np.array([quality, 10]), halved) * 255
    got = both[0].permute(1, 2, 0).numpy()
    lost = np.abs(want - source).mean()
    assert np.abs(got - want).mean() < 0.25 * lost
    assert np.abs(both[1].permute(1, 2, 0).numpy() - source).mean() > lost


def test_each_image_s_degradation_follows_from_its_seed():
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    degrade = LightDegradation(blur_prob=0.5, noise_prob=0.5, jpeg_prob=0.5)
    seeds = [11, 12, 13, 14, 15, 16]
    whole = degrade(x, seeds)
    for i in range(6):
        assert torch.equal(degrade(x[i : i + 1], seeds[i : i + 1]), whole[i : i + 1])
    levels = whole * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    assert not torch.equal(degrade(x, [21, 22, 23, 24, 25, 26]), whole)
    nothing = LightDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0)
    torch.testing.assert_close(nothing(whole, seeds), whole)


def test_blur_keeps_flat_pictures_and_means():
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = blur(x, np.array([0.0, 0.6]))
    torch.testing.assert_close(y[0], x[0])
    assert y[1].var() < 0.9 * x[1].var()
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(blur(flat, np.array([0.5])), flat)


def test_pairs_stay_aligned_and_blocks_lie_anywhere(folder):
    some = {"noise_prob": 0, "blur_prob": 0, "full_chroma_prob": 0}
    sharp = make(folder, RestorationImageDataset, cache_lq=True, jpeg_prob=0, **some)
    made = batch(sharp, 12)
    assert made["lq"].shape[-1] == 12 and made["gt"].shape[-1] == 24
    low = torch.nn.functional.avg_pool2d(made["gt"], 2)
    assert (low - made["lq"]).abs().mean() < 0.03
    coarse = {"jpeg_quality": [5, 5], "jpeg_prob": 1}
    saved = batch(
        make(folder, RestorationImageDataset, cache_lq=True, **coarse, **some), 12
    )
    assert torch.equal(saved["gt"], made["gt"])
    assert (saved["lq"] - made["lq"]).abs().mean() > 0.02
    # Steps between columns are largest at the borders of blocks, whose place differs.
    steps = (saved["lq"][..., 1:] - saved["lq"][..., :-1]).abs().mean((1, 2))
    assert len(set((steps.argmax(1) % 8).tolist())) > 2


def test_validation_degrades_whole_images_the_same_way_each_time(folder):
    section = {"jpeg_quality": [50, 50], "jpeg_prob": 1, "gt_size": None}
    dataset = make(folder, RestorationImageDataset, phase="val", **section)
    first, again = dataset[1], dataset[1]
    assert torch.equal(first["lq"], again["lq"])
    clean = make(folder, phase="val", gt_size=None)[1]
    assert first["lq"].shape == clean["lq"].shape
    assert torch.equal(first["gt"], clean["gt"])
    assert 0.002 < (first["lq"] - clean["lq"]).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"jpeg_quality": [90, 40]}, "two rising numbers from 1 to 100"),
        ({"noise": [0]}, "noise to be two rising numbers"),
        ({"channels": 1}, "channels to be 3"),
    ],
)
def test_mistakes_are_one_sentence(folder, changes, text):
    with pytest.raises(OptionError, match=text):
        make(folder, RestorationImageDataset, **changes)


def test_it_runs_on_the_device_of_its_images():
    x = torch.rand(2, 3, 16, 16).to(CPU)
    assert LightDegradation()(x, [1, 2]).device == x.device
