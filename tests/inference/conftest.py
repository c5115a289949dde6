"""Small networks for the tests of video."""

from __future__ import annotations

import pytest
import torch
from common import randomise

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import Upscaler


@pytest.fixture(scope="session")
def realtime(tmp_path_factory):
    """A small network with a feature tap; its picture is close to the input."""
    file = tmp_path_factory.mktemp("weights") / "realtime.safetensors"
    torch.manual_seed(0)
    save_model(paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1), file, {})
    return file


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A small x2 network without one."""
    file = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    save_model(randomise(model), file, {})
    return file


@pytest.fixture(scope="session")
def upscaler(plain):
    """That network's upscaler."""
    return Upscaler(plain, "cpu")
