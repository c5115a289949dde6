"""A network as a CUDA graph, by a stand-in with fixed memory that is overwritten."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from common import image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from video_common import scene

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.inference import Upscaler, temporal
from paragon_archs.inference.replay import Replayed, can_replay
from paragon_archs.inference.temporal import FrameUpscaler


class Graph(TorchDispatchMode):
    """Records operators, and runs them again on the same memory."""

    made = 0

    def __init__(self):
        super().__init__()
        self.steps = []
        Graph.made += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result

    def replay(self):
        for func, args, kwargs, result in self.steps:
            again = func(*args, **kwargs)
            for own, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(own, torch.Tensor) and own.data_ptr() != new.data_ptr():
                    own.copy_(new)


@pytest.fixture
def cuda(monkeypatch):
    """CUDA's graphs and streams on the CPU; returns what recording meets."""
    modes = []

    def recording(graph, capture_error_mode):
        modes.append(capture_error_mode)
        return graph

    Graph.made = 0
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: contextlib.nullcontext())
    return modes


def inputs(index, side=6):
    return image(1, 2, side, side, seed=index), image(1, 2, side, side, seed=99 + index)


def blend(x, before):
    features = 0.8 * x + 0.2 * before
    return features.relu().sum(1, keepdim=True), features.mul_(1.5)


def test_results_are_nobody_elses(cuda):
    """Held over all further runs, and what goes in is not kept either."""
    calls = []

    def call(*given):
        calls.append(len(given))
        return blend(*given)

    replayed, held = Replayed(call), []
    with torch.inference_mode():
        for index in range(12):
            given = [x.clone() for x in inputs(index)]
            held.append(replayed(*given))
            for x in given:
                x.zero_()
    assert (len(calls), Graph.made, cuda) == (5, 1, ["thread_local"])
    for index, results in enumerate(held):
        for got, wanted in zip(results, blend(*inputs(index)), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_other_sizes_run_as_they_are(cuda):
    replayed = Replayed(blend)
    for index in range(30):
        given = inputs(index, side=6 + index % 3)
        for got, wanted in zip(replayed(*given), blend(*given), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert Graph.made == 1


@pytest.mark.parametrize("when", ["while", "behind"])
def test_what_cannot_be_recorded_runs_step_by_step(when, cuda, monkeypatch, caplog):
    class Failing:
        def __init__(self, graph, capture_error_mode):
            pass

        def __enter__(self):
            if when == "while":
                raise RuntimeError("operation not permitted when stream is capturing")

        def __exit__(self, *_):
            if when == "behind":
                raise RuntimeError("the capture is invalid\nand more")

    monkeypatch.setattr(torch.cuda, "graph", Failing)
    replayed = Replayed(blend)
    for index in range(12):
        given = inputs(index)
        for got, wanted in zip(replayed(*given), blend(*given), strict=True):
            assert torch.equal(got, wanted)
    assert caplog.text.count("no CUDA graph here") == Graph.made == 1
    assert "and more" not in caplog.text


def test_a_video_is_the_same(cuda, monkeypatch):
    """Features of each frame, kept for a later resumption, too; a cut drops them."""
    model = paragon_archs.create("paragonsr2_realtime", 2, base_kernel="mks2021")
    upscaler = Upscaler(load_model(model.state_dict()), "cpu")
    monkeypatch.setattr(temporal, "can_replay", lambda _: True)
    rng = np.random.default_rng(0)
    films = [scene(0), scene(0, seed=7)]
    noisy = [
        np.clip(films[i // 9] + rng.normal(0, 6, films[0].shape), 0, 255)
        for i in range(18)
    ]
    frames = [frame.astype(np.uint8) for frame in noisy]
    shown, kept = [], []
    for cuda_graph in (False, True):
        worker = FrameUpscaler(upscaler, 0.2, cuda_graph)
        states = []
        shown.append([])
        for frame in frames:
            shown[-1].append(worker.frames([frame])[0])
            states.append(worker.memory())
        kept.append(states)
    assert Graph.made == 1
    np.testing.assert_array_equal(*shown)
    for one, two in zip(*kept, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)


def test_where_there_are_none_is_one_sentence():
    assert [can_replay(torch.device(d)) for d in ("cpu", "cuda:1", "mps")] == [
        False,
        True,
        False,
    ]
    model = paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1)
    upscaler = Upscaler(load_model(model.state_dict()), "cpu")
    for alpha in (None, 0.2):
        with pytest.raises(ValueError, match="NVIDIA card, for a CUDA graph"):
            FrameUpscaler(upscaler, alpha, True)
