"""Whole images made once: LR sides, smaller copies, chances by area, drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_common import batch, make, write_pictures

pytest.importorskip("basicsr")

from paragon_archs.config.errors import OptionError
from paragon_archs.data.degraded_dataset import DegradedImageDataset
from paragon_archs.data.hr_dataset import HRImageDataset
from paragon_archs.data.restoration_dataset import RestorationImageDataset
from paragon_archs.utils.resize import imresize


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path)


def test_crops_of_kept_lr_sides_are_those_of_their_pictures(folder):
    kept = make(folder, cache_lq=True, gt_scales=[1.0, 0.6])
    assert len(kept) == 12
    made = batch(kept, 12)
    assert made["lq"].shape == (12, 3, 12, 12) and made["gt"].shape[-1] == 24
    # Whatever its flip and turn, a crop is the LR of its own target, border apart.
    gap = (imresize(made["gt"], 0.5) - made["lq"])[..., 2:-2, 2:-2]
    assert gap.abs().max() < 0.01
    again = batch(make(folder, cache_lq=True, gt_scales=[1.0, 0.6]), 12)
    assert torch.equal(again["lq"], made["lq"]) and torch.equal(again["gt"], made["gt"])


def test_a_degraded_set_has_smaller_copies_too(folder):
    plain = make(folder, DegradedImageDataset, crop_size=40)
    made = make(folder, DegradedImageDataset, crop_size=40, gt_scales=[1.0, 0.6])
    assert (len(plain), len(made)) == (6, 12)
    for dataset in (plain, made):
        sample = batch(dataset, 12)
        assert sample["gt"].shape == (12, 3, 40, 40) and "lq" not in sample
        assert sample["kernel1"].shape == (12, 21, 21)


def test_small_copies_are_left_out_and_limits_hold(folder):
    assert len(make(folder, gt_size=60, gt_scales=[1.0, 0.6])) == 7
    for changes, text in (
        ({"cache_lq": True, "cache_limit_gb": 1e-5}, "Raise it, or remove"),
        ({"gt_scales": [1.0, 2]}, "at most 1, but got 2"),
    ):
        with pytest.raises(OptionError, match=text):
            make(folder, **changes)


def test_large_images_are_drawn_more_often(folder):
    wholes = make(folder, by_area=True).wholes
    assert wholes is not None
    chosen = np.asarray(wholes.by_area(np.linspace(0, 1, 10_001)[:-1]))
    share = np.bincount(chosen, minlength=6) / len(chosen)
    assert share[:5] == pytest.approx(1 / 9, abs=1e-3)
    assert share[5] == pytest.approx(4 / 9, abs=1e-3)


def test_another_section_shares_the_images(folder):
    first = make(folder, cache_lq=True, gt_scales=[1.0, 0.6])
    other = first.resized({**first.opt, "gt_size": 60, "batch_size_per_gpu": 4})
    assert other is not None and len(other) == 7 and len(first) == 12
    assert other.store is first.store
    assert batch(other)["gt"].shape[-1] == 60 and batch(first)["gt"].shape[-1] == 24
    assert first.resized({**first.opt, "use_rot": False}) is None
    with pytest.raises(OptionError, match="in every stage"):
        first.resized({**first.opt, "gt_size": 90})


@pytest.mark.parametrize("kind", [HRImageDataset, RestorationImageDataset])
@pytest.mark.parametrize("cache_lq", [False, True])
def test_drawn_pictures_have_their_share(folder, kind, cache_lq):
    plain = make(folder, kind, cache_lq=cache_lq)
    mixed = make(folder, kind, cache_lq=cache_lq, drawn_share=0.25)
    before, after = batch(plain, 200), batch(mixed, 200)
    differs = (before["gt"] != after["gt"]).flatten(1).any(1)
    assert 0.15 < differs.float().mean() < 0.35
    drawn = after["gt"][differs]
    assert drawn.min() == 0 and drawn.max() == 1
    assert torch.equal(batch(mixed, 20)["lq"], after["lq"][:20])
