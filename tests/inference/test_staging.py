"""Frames beside a GPU, without one: what waits for it, and what crosses the bus."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.inference import Upscaler, memory, runner, staging
from paragon_archs.inference import upscaler as upscaling
from paragon_archs.inference.borders import Border
from paragon_archs.inference.staging import Staging
from paragon_archs.inference.temporal import FrameUpscaler
from paragon_archs.media.arrays import of_pixels, to_array, to_pixels, to_tensor

CPU = torch.device("cpu")
BITS = [np.uint8, np.uint16]


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("alpha", [None, 0.2])
@pytest.mark.parametrize("bits", BITS)
def test_the_host_waits_once_a_frame(bits, alpha, border, monkeypatch):
    """torch's meta device has no values: whoever waits for one is an error there."""
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, base_kernel="mks2021", num_blocks=1
    )
    upscaler = Upscaler(load_model(model.state_dict()), torch.device("meta"), "fp32")
    upscaler.border = Border(border)
    worker = FrameUpscaler(upscaler, alpha)
    waits, sent = [], []
    monkeypatch.setattr(runner, "all_finite", lambda x: waits.append(x) or True)
    monkeypatch.setattr(
        Staging, "download", lambda _, pixels: sent.append(pixels) or (lambda: pixels)
    )
    frame = np.zeros((12, 10, 3), bits)
    for count in range(1, 4):
        prepared = worker.prepare(frame)
        assert prepared.sent.pixels.element_size() == frame.itemsize
        worker.upscale([prepared])
        assert len(waits) == len(sent) == count
    assert {x.device.type for x in sent} == {"meta"}
    assert sent[-1].shape == (24, 20, 3) and sent[-1].is_contiguous()
    assert sent[-1].element_size() == frame.itemsize


@pytest.mark.parametrize("free", [1e9, 1e3])
def test_eight_turns_of_a_picture_are_added_where_they_are_made(free, monkeypatch):
    """One result is fetched, unless the device has no room for their sum."""
    model = paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1)
    meta = torch.device("meta")
    upscaler = Upscaler(load_model(model.state_dict()), meta, "fp32", tta=True)
    upscaler.border = Border(0)
    fetched = []
    monkeypatch.setattr(runner, "all_finite", lambda _: True)
    monkeypatch.setattr(upscaling, "to_array", lambda x, _: fetched.append(x) or x)
    monkeypatch.setattr(memory, "budget", lambda *_: free)
    monkeypatch.setattr(upscaler.runner, "in_one_piece", lambda *_: True)
    if free < 1e6:
        with pytest.raises(NotImplementedError):  # of a device without values
            upscaler.image(np.zeros((12, 10, 3), np.uint8))
        return
    upscaler.image(np.zeros((12, 10, 3), np.uint8))
    assert [(x.device, x.shape) for x in fetched] == [(meta, (1, 3, 24, 20))]


class Stream:
    """Stands in for one of CUDA's; notes what is done with it."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def wait_event(self, event):
        self.log.append((self.name, "waits for", event.name))

    def wait_stream(self, stream):
        self.log.append((self.name, "waits for", stream.name))

    def record_event(self):
        def synchronize():
            self.log.append(("host", "waits for", self.name))

        return SimpleNamespace(name=self.name, synchronize=synchronize)


@pytest.mark.parametrize("bits", BITS)
def test_copies_run_beside_the_network(bits, monkeypatch):
    log: list[tuple[str, ...]] = []
    names = iter(["up", "down"])
    work = Stream(log, "network")
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream(log, next(names)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: work)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(staging, "page_locked", torch.empty_like)
    moved = Staging(torch.device("cuda"))
    moved.device = CPU
    rng = np.random.default_rng(0)
    frame = rng.integers(0, np.iinfo(bits).max, (5, 7, 3), bits, endpoint=True)
    sent = moved.upload(frame)
    assert log == []
    assert sent.pixels.element_size() == frame.itemsize
    wait = moved.download(sent.pixels)
    assert log == [("down", "waits for", "network")]
    np.testing.assert_array_equal(wait(), frame)
    assert log[1:] == [("host", "waits for", "down")]


@pytest.mark.parametrize("bits", BITS)
def test_pixels_survive_the_way_to_values_and_back(bits):
    """As the device converts them, and as the CPU does."""
    frame = np.arange(65536).astype(bits).reshape(-1, 64, 1).repeat(3, 2)
    values = to_tensor(frame, CPU)
    device = staging.from_pixels(staging.as_pixels(frame))
    torch.testing.assert_close(device, values, rtol=0, atol=0)
    assert to_array(values, frame.dtype).flags.c_contiguous
    np.testing.assert_array_equal(to_array(values, frame.dtype), frame)
    np.testing.assert_array_equal(of_pixels(to_pixels(values, frame.dtype)), frame)
