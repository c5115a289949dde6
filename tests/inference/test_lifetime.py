"""Networks go with their upscalers: hosts load one model after another."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from common import SMALL, small_model

from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.inference import Upscaler


@pytest.mark.parametrize("name", SMALL)
def test_nothing_holds_the_network_of_an_upscaler_that_is_gone(name, tmp_path):
    file = tmp_path / "small.safetensors"
    save_model(small_model(name), file)
    descriptor = load_model(file, "cpu")
    upscaler = Upscaler(descriptor, "cpu", memory="1")
    upscaler.image(np.zeros((40, 12, 3), np.uint8))
    networks = [
        weakref.ref(upscaler.runner.network),
        weakref.ref(descriptor.model),
    ]
    del descriptor, upscaler
    gc.collect()
    assert not any(network() is not None for network in networks)
