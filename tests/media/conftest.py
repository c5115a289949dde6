"""A network that only resamples, for the tests of video files."""

from __future__ import annotations

import pytest

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import Upscaler


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    """A network that only resamples: what comes out is the source, twice as large."""
    file = tmp_path_factory.mktemp("weights") / "resampler.safetensors"
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, num_blocks=1, detail_gain=0.0, upsampler_alpha=0.0
    )
    save_model(model, file, {})
    return Upscaler(file, "cpu")
