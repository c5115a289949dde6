"""Small pictures in batches on a device: the results are those of each."""

from __future__ import annotations

import numpy as np
import pytest
from common import pattern
from PIL import Image

from paragon_archs.inference import Upscaler, WriteOptions
from paragon_archs.inference.jobs import plan, run
from paragon_archs.inference.runner import Runner

SIZES = [(9, 13), (9, 13), (9, 13), (13, 9), (9, 13)]


@pytest.fixture
def batches(monkeypatch):
    """The batch of each run of the network, as on a device."""
    seen = []
    whole = Runner.whole

    def watched(self, inputs, padded=None):
        seen.append(len(inputs[0]))
        return whole(self, inputs, padded)

    monkeypatch.setattr(Upscaler, "batches", True)
    monkeypatch.setattr(Runner, "whole", watched)
    return seen


def jobs(folder, tmp_path):
    return plan([folder], tmp_path / "out")


@pytest.fixture
def folder(tmp_path):
    """Five pictures, of which the fourth has another size."""
    place = tmp_path / "in"
    place.mkdir()
    for index, size in enumerate(SIZES):
        turned = np.roll(pattern(*size, 3), index, axis=0)
        Image.fromarray(turned).save(place / f"{index}.png")
    return place


def test_small_pictures_of_one_size_are_batched(batches, plain, folder, tmp_path):
    upscaler = Upscaler(plain, device="cpu")
    planned = jobs(folder, tmp_path)
    upscaler.image(pattern(9, 13, 3))  # measures its border as well
    batches.clear()
    assert run(upscaler, planned, WriteOptions()) == []
    assert batches == [3, 1, 1]
    for job in planned:
        alone = upscaler.image(np.asarray(Image.open(job.source)))
        made = np.asarray(Image.open(job.output)).astype(int)
        assert np.abs(made - alone).max() <= 1, job.source


@pytest.mark.parametrize("change", ["alpha", "sixteen", "large"])
def test_what_is_computed_alone(change, batches, plain, folder, tmp_path, monkeypatch):
    options = WriteOptions(depth=16) if change == "sixteen" else WriteOptions()
    if change == "alpha":
        clear = np.dstack([pattern(9, 13, 3), pattern(9, 13, 1)])
        for index, size in enumerate(SIZES):
            Image.fromarray(clear[: size[0], : size[1]]).save(folder / f"{index}.png")
    if change == "large":
        monkeypatch.setattr("paragon_archs.inference.jobs._BATCH_PIXELS", 9 * 13)
    upscaler = Upscaler(plain, device="cpu")
    assert run(upscaler, jobs(folder, tmp_path), options) == []
    assert set(batches) == {1}


def test_a_failure_is_one_pictures_own(batches, plain, folder, tmp_path, monkeypatch):
    upscaler = Upscaler(plain, device="cpu")
    image = Upscaler.picture

    def fails(self, picture, dtype=None):
        if np.array_equal(picture.pixels, np.roll(pattern(9, 13, 3), 1, axis=0)):
            raise ValueError("no picture")
        return image(self, picture, dtype)

    def fails_batch(self, frames):
        raise ValueError("no batch")

    monkeypatch.setattr(Upscaler, "picture", fails)
    batched = "paragon_archs.inference.jobs.FrameUpscaler.frames"
    monkeypatch.setattr(batched, fails_batch)
    planned = jobs(folder, tmp_path)
    failed = run(upscaler, planned, WriteOptions())
    assert failed == [(planned[1], "no picture")]
    assert [job.output.exists() for job in planned] == [True, False, True, True, True]
