"""ONNX graphs, published flags and shipped models give the network's picture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from common import randomise
from PIL import Image

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.cli import run_inference
from paragon_archs.cli.upscale import main
from paragon_archs.export.onnx import export_onnx
from paragon_archs.inference import Upscaler
from paragon_archs.inference.backends import OnnxModel
from paragon_archs.weights import available


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, their graph and an image."""
    folder = tmp_path_factory.mktemp("backends")
    model = randomise(paragon_archs.create("paragonsr2_realtime", 2))
    save_model(model, folder / "model.safetensors", {})
    export_onnx(model, folder / "model.onnx")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "input.png")
    return folder


def test_onnx_gives_the_networks_picture(folder):
    pixels = np.asarray(Image.open(folder / "input.png"))
    wanted = Upscaler(folder / "model.safetensors", "cpu").image(pixels)
    graph = Upscaler(folder / "model.onnx", "cpu", providers=["cpu"])
    assert graph.scale == 2
    assert np.abs(graph.image(pixels).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("model", "provider", "part"),
    [
        ("model.onnx", "warp", "provider"),
        ("none.onnx", "cpu", "a weight file"),
        ("some.trt", "cpu", "tensorrt"),
        ("broken.onnx", "cpu", "ONNX graph"),
    ],
)
def test_wrong_graphs_are_one_sentence(folder, model, provider, part, capsys):
    (folder / "broken.onnx").write_bytes(b"no graph")
    (folder / "some.trt").write_bytes(b"no engine")
    arguments = [str(folder / "input.png"), "-o", str(folder / "x.png")]
    arguments += ["--model", str(folder / model), "--provider", provider]
    if model == "some.trt" and torch.cuda.is_available():
        pytest.skip("this machine may have tensorrt")
    assert main([*arguments, "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.count("\n") == 1


def published(folder, monkeypatch, *more):
    monkeypatch.chdir(folder)
    line = "--input input.png --model model.safetensors --arch paragonsr2_realtime"
    return run_inference.main([*line.split(), "--scale", "2", *more])


def test_published_command_line(folder, monkeypatch, capsys):
    assert published(folder, monkeypatch) == 0
    assert Image.open(folder / "output" / "input.png").size == (56, 40)
    flags = "--fp32 --disable_compile --no_temporal --suffix _x2 --output other"
    assert published(folder, monkeypatch, *flags.split()) == 0
    assert (folder / "other" / "input_x2.png").exists()
    assert (
        published(folder, monkeypatch, "--upsampler_alpha", "1", "--suffix", "a") == 0
    )
    one, two = (
        np.asarray(Image.open(folder / "output" / f"input{s}.png")) for s in ("", "a")
    )
    assert (one != two).any()


def test_published_flags_that_contradict_are_errors(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    line = "--input input.png --model model.safetensors --output contradicted"
    for more in ("--arch paragonsr2_photo", "--scale 4"):
        assert run_inference.main([*line.split(), *more.split()]) == 2
        assert "as recorded in 'model.safetensors'" in capsys.readouterr().err


def test_shipped_models_go_by_name(folder, capsys):
    for name in available():
        out = folder / f"{name}.png"
        arguments = [str(folder / "input.png"), "-o", str(out), "--model", name]
        assert main(arguments) == 0
    assert main([str(folder / "input.png"), "-o", str(folder / "default.png")]) == 0
    arguments = [str(folder / "input.png"), "-o", str(folder / "no.png")]
    assert main([*arguments, "--model", "paragonsr_gigantic"]) == 2


def test_a_provider_that_does_not_start_is_an_error(folder, caplog):
    """onnxruntime takes the CPU without a word where CUDA's libraries are missing."""
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("this onnxruntime holds no CUDA provider")
    if torch.cuda.is_available():
        pytest.skip("it may start here")
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(ValueError, match=f"start the provider '{provider}'"):
            Upscaler(folder / "model.onnx", "cpu", providers=[provider])


def test_a_cpu_device_leaves_onnxruntime_there(folder):
    graph = Upscaler(folder / "model.onnx", "cpu").descriptor
    assert isinstance(graph, OnnxModel)
    assert graph._session.get_providers() == ["CPUExecutionProvider"]


def test_onnxruntimes_errors_are_ours(folder):
    """Its own classes would end a folder's run; a real refusal of the runtime."""
    graph = Upscaler(folder / "model.onnx", "cpu").descriptor
    assert isinstance(graph, OnnxModel)
    with pytest.raises(RuntimeError, match="onnxruntime: "):
        graph(torch.zeros(1, 5, 8, 8))


def test_a_graphs_peak_stands_in_its_file(folder):
    network = Upscaler(folder / "model.safetensors", "cpu").runner
    graph = Upscaler(folder / "model.onnx", "cpu").runner
    assert graph.cost((720, 1280)) == pytest.approx(network.cost((720, 1280)), rel=0.01)


def with_memory(runner, peak, total):
    """A copy of a runner on a GPU, and what is left of its memory."""
    runner = copy.copy(runner)
    runner.model = copy.copy(runner.model)
    runner.model.bytes_per_pixel = peak
    runner.device = torch.device("cuda")
    return runner, 0.8 * (total * 2**30 - 1.5 * 2**30)


@pytest.mark.parametrize("peak", [None, 1300.0])
@pytest.mark.parametrize("total", [6, 8, 12, 24])
def test_graphs_of_720p_run_whole_on_common_gpus(folder, peak, total):
    graph = Upscaler(folder / "model.onnx", "cpu").runner
    runner, budget = with_memory(graph, peak, total)
    assert runner.in_one_piece((720, 1280), budget)
    # One whose need is known to be larger goes into tiles that fit.
    runner, budget = with_memory(graph, 50_000.0, total)
    assert not runner.in_one_piece((1440, 2560), budget)
    assert 64 <= runner._tile(budget) <= 512


def test_an_engine_of_one_size_is_never_cut(folder):
    graph = Upscaler(folder / "model.onnx", "cpu").runner
    runner, _ = with_memory(graph, 0.0, 8)
    runner.model.largest = (720, 1280)
    assert runner.in_one_piece((720, 1280), 0.0)
    assert not runner.in_one_piece((721, 1280), 1e12)
    runner.tiles = False
    assert runner.in_one_piece((721, 1280), 0.0)
