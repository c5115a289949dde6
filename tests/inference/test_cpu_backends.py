"""A network's graph in another runtime gives torch's picture, whole and in strips."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from common import pattern, randomise

import paragon_archs
from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.cli.upscale import main
from paragon_archs.inference import Upscaler, runtimes

OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        ),
    )
    for name in runtimes.BACKENDS[2:]
]

# A network whose strips need margins alone, and one of windows, which runs whole.
NETWORKS = {
    "paragonsr2_stream": {"num_groups": 1, "num_blocks": 1, "num_feat": 8},
    "paragonsr2_photo": {
        "num_groups": 1,
        "num_blocks": 1,
        "num_feat": 16,
        "window_size": 4,
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of what is kept between runs; nothing of this machine's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module", params=NETWORKS)
def weights(request, cache):
    """A file of weights by which every part matters."""
    model = paragon_archs.create(request.param, 2, **NETWORKS[request.param])
    file = cache / f"{request.param}.safetensors"
    save_model(randomise(model), file, {})
    return file


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("memory", ["auto", "1M"], ids=["whole", "strips"])
def test_a_graph_gives_torchs_picture(weights, backend, memory):
    torchs = Upscaler(weights, "cpu", memory=memory, backend="torch")
    other = Upscaler(weights, "cpu", memory=memory, backend=backend)
    assert (torchs.backend, other.backend) == ("torch", backend)
    pixels = pattern(90, 37, 3, np.uint8).astype(np.float32) / 255
    for _ in range(3):  # OpenVINO takes other steps from the second of a size on
        wanted, got = torchs.image(pixels), other.image(pixels)
        assert np.abs(got - wanted).max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("backend", OTHERS)
def test_strips_that_need_margins_alone_run_in_the_graph(weights, backend, monkeypatch):
    upscaler = Upscaler(weights, "cpu", memory="1M", backend=backend)
    engine = upscaler.runner.engine()
    heights = []
    run = engine.graph
    monkeypatch.setattr(engine, "graph", lambda x: heights.append(x.shape[2]) or run(x))
    upscaler.image(pattern(90, 37, 3, np.uint8))
    local = "photo" not in weights.name  # whose windows the engine shifts itself
    assert (len(heights) > 2) == local
    assert max(heights, default=0) < 90


def test_auto_waits_for_a_graph(cache, monkeypatch):
    file = cache / "auto.safetensors"
    save_model(randomise(paragon_archs.create("paragonsr2_stream", 2)), file, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert Upscaler(file, "cpu").backend == "torch"
    graph = runtimes.graph_file(load_model(file, "cpu"))
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.touch()
    picked = runtimes.pick_backend(
        "auto", load_model(file, "cpu"), torch.device("cpu"), torch.float32
    )
    assert picked == "openvino"
    assert Upscaler(file, "cpu", dtype="bf16").backend == "torch"
    # What was learned here counts more than what ships; a broken file counts nothing.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cache))
    learned = runtimes.learn({"paragonsr2_stream": []})
    assert Upscaler(file, "cpu").backend == "torch"
    learned.write_text("[")
    assert runtimes.faster_than_torch()["paragonsr2_stream"][0] == "openvino"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("--backend ncnn", "backend"),
        ("--backend openvino --compile", "--compile"),
        ("--backend onnxruntime --dtype bf16", "fp32"),
    ],
)
def test_what_no_backend_runs_is_one_sentence(flags, part, tmp_path, capsys, cache):
    line = ["x.png", "-o", str(tmp_path / "y.png"), "--device", "cpu"]
    line += ["--model", "paragonsr2_realtime_x2"]
    assert main([*line, *flags.split()]) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("weights", ["paragonsr2_stream"], indirect=True)
def test_signals_are_noted_after_another_thread_drops_the_graph(weights, backend):
    """OpenVINO's signal stack went with its core: Ctrl-C was a segmentation fault."""
    script = """
        import gc, os, signal, sys, threading
        import numpy as np
        from paragon_archs.inference import Upscaler

        held = [Upscaler(sys.argv[1], "cpu", backend=sys.argv[2])]
        held[0].image(np.zeros((8, 8, 3), np.uint8))
        thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
        thread.start()
        thread.join()
        noted = []
        signal.signal(signal.SIGUSR1, lambda *_: noted.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        sys.exit(not noted)
    """
    call = [sys.executable, "-c", textwrap.dedent(script), str(weights), backend]
    assert subprocess.run(call, check=False).returncode == 0
