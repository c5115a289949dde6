"""`--compile`: for pictures and videos, and where there is no compiler."""

from __future__ import annotations

import functools
import logging

import numpy as np
import pytest
import torch
from common import randomise

import paragon_archs
from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.compiling import Compiled
from paragon_archs.inference.temporal import FrameUpscaler

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_model(randomise(paragon_archs.create("paragonsr2_realtime", 2)), file)
    return load_model(file)


def backend(called, works):
    """A compiler that takes graphs as they are, or that is not there."""

    def compile_(graph, inputs):
        called.append(graph)
        if not works:
            raise ImportError("no module named triton")
        return graph.forward

    return compile_


@pytest.mark.parametrize("temporal", [None, 0.2])
@pytest.mark.parametrize("works", [True, False])
def test_what_is_compiled_and_what_is_not(
    descriptor, temporal, works, monkeypatch, caplog
):
    torch._dynamo.reset()
    called = []
    compiler = functools.partial(torch.compile, backend=backend(called, works))
    monkeypatch.setattr(torch, "compile", compiler)
    found = []
    with caplog.at_level(logging.WARNING):
        for compile_ in (False, True):
            upscaler = Upscaler(descriptor, "cpu", compile_=compile_)
            frames = FrameUpscaler(upscaler, temporal)
            found.append([frames.frames([frame])[0] for frame in FRAMES])
    assert called
    assert np.abs(np.subtract(*found, dtype=int)).max() <= 1
    lines = [r.getMessage() for r in caplog.records if "compile" in r.getMessage()]
    assert len(lines) == (not works)
    assert all("triton" in line for line in lines)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError("full"),
    ],
)
def test_the_networks_own_errors_stay(error, monkeypatch):
    def call(x):
        raise error

    monkeypatch.setattr(torch, "compile", lambda call: call)
    with pytest.raises(type(error)):
        Compiled(call)(1)
