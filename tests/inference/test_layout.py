"""The memory layout that a start-up measurement chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import SMALL, image, small_model

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.deploy import deploy_model
from paragon_archs.inference import Upscaler, layout
from paragon_archs.inference.layout import LAYOUTS, Layout, arrange, has_choice

CPU = torch.device("cpu")


def is_nhwc(x):
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("taken", "chosen"), [((1.0, 0.5), "NHWC"), ((1.0, 0.97), "NCHW")]
)
def test_the_faster_one_is_kept(taken, chosen):
    """Tried at the third image, and never again; a draw changes nothing."""
    network = torch.nn.Conv2d(4, 4, 3, padding=1)
    times, given = iter(taken), []

    def seconds(run):
        run()
        return next(times)

    def call(x):
        given.append((is_nhwc(x), is_nhwc(network.weight)))
        return network(x)

    chooser = Layout(network, call, CPU, seconds)
    for index in range(5):
        (x,) = chooser([image(1, 4, 8, 8)])
        last = chosen == "NHWC" and index >= 2
        assert is_nhwc(x) == is_nhwc(network.weight) == last
        assert (chooser.name == chosen) == (index >= 2)
    assert given == [(False, False), (True, True)]


def test_a_layout_that_does_not_fit_is_not_taken():
    network = torch.nn.Conv2d(4, 4, 3, padding=1)

    def call(x):
        if is_nhwc(x):
            torch.empty(2**56, dtype=torch.uint8)  # a real refusal
        return network(x)

    chooser = Layout(network, call, CPU, lambda run: float(run() is None))
    for _ in range(3):
        (x,) = chooser([image(1, 4, 8, 8)])
    assert chooser.name == "NCHW" and not is_nhwc(x) and not is_nhwc(network.weight)


def test_a_network_s_own_errors_are_not_hidden():
    def call(x):
        raise RuntimeError("broken")

    chooser = Layout(torch.nn.Conv2d(4, 4, 3), call, CPU, lambda run: run())
    chooser([image(1, 4, 8, 8)])
    chooser([image(1, 4, 8, 8)])
    with pytest.raises(RuntimeError, match="broken"):
        chooser([image(1, 4, 8, 8)])


@pytest.mark.parametrize("name", SMALL)
def test_a_layout_changes_no_result(name):
    """In float64, by the steps that every device takes."""
    network = deploy_model(small_model(name).double())
    x = image(1, 3, 21, 18, dtype=torch.float64)
    results = []
    with torch.inference_mode():
        for format_ in LAYOUTS.values():
            arrange(network, format_)
            results.append(network(x.contiguous(memory_format=format_)))
        state = network.state_dict()
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)
    kernels = [k for k, v in state.items() if v.ndim == 4 and not is_nhwc(v)]
    assert {k.rsplit(".", 1)[-1] for k in kernels} <= {"bias"}


@pytest.mark.parametrize("there", [None, "cuda", "mps"])
def test_only_an_accelerator_has_a_choice(there, monkeypatch):
    device = None if there is None else torch.device(there)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    for name in ("cpu", "cuda", "cuda:1", "mps", "meta"):
        wanted = there is not None and name.startswith(there)
        assert has_choice(torch.device(name)) == wanted


def test_an_upscaler_s_runs_go_through_it(monkeypatch):
    """Pictures and videos; nothing is tried where torch compiles, or on a CPU."""
    model = paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1)
    described = load_model(model.state_dict())
    assert Upscaler(described, "cpu").runner.layout is None
    monkeypatch.setattr("paragon_archs.inference.runner.has_choice", lambda _: True)
    assert Upscaler(described, "cpu", compile_=True).runner.layout is None
    measured = []

    def measure(_, run):
        measured.append(run().shape)
        return 1.0

    monkeypatch.setattr(layout.Layout, "_measured", measure)
    upscaler = Upscaler(described, "cpu")
    plain = Upscaler(described, "cpu")
    plain.runner.layout = None
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    for _ in range(4):
        got = upscaler.image(picture).astype(int)
        assert np.abs(got - plain.image(picture)).max() <= 1
    chooser = upscaler.runner.layout
    assert chooser is not None and chooser.name in LAYOUTS
    assert len(measured) == 2  # of pictures, not of what finds their border
