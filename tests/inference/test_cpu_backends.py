"""A network's graph in another runtime gives torch's picture, whole and in strips."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from common import pattern, randomise

import paragon_archs
from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.cli.upscale import main
from paragon_archs.inference import Upscaler, WriteOptions, measured, runtimes
from paragon_archs.inference.jobs import Job, run
from paragon_archs.inference.temporal import ALPHA, FrameUpscaler
from paragon_archs.inference.workload import pixels_of

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


# An export takes ten seconds, and its rules look at no network.
ONE_NETWORK = pytest.mark.parametrize("weights", ["paragonsr2_stream"], indirect=True)


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
    assert engine is not None
    heights = []
    graph = engine.graph
    assert graph is not None
    monkeypatch.setattr(
        engine, "graph", lambda x: heights.append(x.shape[2]) or graph(x)
    )
    upscaler.image(pattern(90, 37, 3, np.uint8))
    local = "photo" not in weights.name  # whose windows the engine shifts itself
    assert (len(heights) > 2) == local
    assert max(heights, default=0) < 90


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("memory", ["auto", "1M"], ids=["whole", "strips"])
def test_frames_that_carry_features_run_in_the_graph(
    cache, backend, memory, monkeypatch
):
    file = cache / "paragonsr2_stream.safetensors"
    arguments = NETWORKS["paragonsr2_stream"]
    model = randomise(paragon_archs.create("paragonsr2_stream", 2, **arguments))
    save_model(model, file, {})
    frames = [pattern(90, 37, 3, np.uint8) + step for step in range(3)]
    wanted = FrameUpscaler(Upscaler(file, "cpu", backend="torch"), ALPHA).frames(frames)
    worker = FrameUpscaler(Upscaler(file, "cpu", memory=memory, backend=backend), ALPHA)
    call, runs = runtimes.GraphModel.__call__, []
    monkeypatch.setattr(
        runtimes.GraphModel,
        "__call__",
        lambda *given, **named: runs.append(named) or call(*given, **named),
    )
    for one, other in zip(worker.frames(frames), wanted, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert len(runs) == 3 if memory == "auto" else len(runs) > 6
    assert runs[-1]["prev_feat"] is not None


@pytest.fixture
def known(weights, monkeypatch, tmp_path):
    """Torch's time for a megapixel, and that the other runtimes take half of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shares = dict.fromkeys(runtimes.BACKENDS[2:], 0.5)
    name = str(measured.network_name(load_model(weights, "cpu").model))
    measured.learn(name, measured.Measured(1.0, shares))
    return weights


@ONE_NETWORK
@pytest.mark.parametrize("backend", OTHERS)
def test_auto_exports_for_what_repays_it(known, backend, monkeypatch):
    found = importlib.util.find_spec
    others = {*runtimes.BACKENDS[2:]} - {backend}
    name = str(measured.network_name(load_model(known, "cpu").model))
    measured.learn(name, measured.Measured(1.0, {backend: 0.5}))
    upscaler = Upscaler(known, "cpu")
    least = 2 * runtimes.EXPORT_SECONDS * torch.get_num_threads() * 1e6
    assert upscaler.worth_exporting(0.9 * least) is None
    assert upscaler.worth_exporting(1.1 * least) == backend
    measured.learn(f"{name} video", measured.Measured(1.0, {backend: 0.75}))
    assert upscaler.worth_exporting(1.9 * least, video=True) is None
    assert upscaler.worth_exporting(2.1 * least, video=True) == backend
    assert Upscaler(known, "cpu", "bf16").worth_exporting(9 * least) is None
    named = Upscaler(known, "cpu", backend="torch")
    assert named.worth_exporting(9 * least) is None
    with monkeypatch.context() as patch:
        gone = {backend, *others}
        patch.setattr(
            importlib.util, "find_spec", lambda n: None if n in gone else found(n)
        )
        assert upscaler.worth_exporting(9 * least) is None
    assert upscaler.backend == "torch"
    upscaler.export()
    assert upscaler.backend == Upscaler(known, "cpu").backend == backend
    assert upscaler.worth_exporting(9 * least) is None
    pixels = pattern(20, 37, 3, np.uint8).astype(np.float32) / 255
    wanted, got = named.image(pixels), upscaler.image(pixels)
    assert 0 < np.abs(got - wanted).max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("backend", OTHERS)
def test_pictures_are_computed_side_by_side(weights, backend, tmp_path, monkeypatch):
    pil = pytest.importorskip("PIL.Image")
    jobs = [Job(tmp_path / f"{n}.png", tmp_path / f"{n}_x2.png") for n in range(6)]
    for job in jobs:
        pil.fromarray(pattern(20, 30, 3, np.uint8)).save(job.source)
    load, opened = runtimes.load_graph, []

    def loaded(*given):
        opened.append((threading.get_ident(), torch.get_num_threads()))
        return load(*given)

    monkeypatch.setattr(runtimes, "load_graph", loaded)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        upscaler = Upscaler(weights, "cpu", backend=backend)
        assert upscaler.lanes == 2
        assert not run(upscaler, jobs, WriteOptions())
    finally:
        torch.set_num_threads(threads)
    assert opened[0] == (threading.get_ident(), 2)
    assert {count for _, count in opened[1:]} == {1}
    assert len({ident for ident, _ in opened}) == len(opened) <= 3
    wanted = Upscaler(weights, "cpu", backend="torch").image(
        pattern(20, 30, 3, np.uint8)
    )
    for job in jobs:
        made = np.asarray(pil.open(job.output)).astype(int)
        assert np.abs(made - wanted).max() <= 1


@ONE_NETWORK
def test_two_processes_export_at_once(known):
    graph = runtimes.graph_file(load_model(known, "cpu"))
    upscalers = [Upscaler(known, "cpu") for _ in range(2)]
    threads = [threading.Thread(target=one.export) for one in upscalers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.backend for one in upscalers] != ["torch", "torch"]
    assert [*graph.parent.iterdir()] == [graph]


def folder_of(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(pattern(20, 30, 3, np.uint8)).save(folder / "a.png")
    return folder


@ONE_NETWORK
@pytest.mark.parametrize("how", ["made", "failed", "broken"])
def test_a_command_goes_on_in_what_repays(known, how, tmp_path, capsys, monkeypatch):
    folder = folder_of(tmp_path)
    monkeypatch.setattr(runtimes, "EXPORT_SECONDS", 1e-9)
    graph = runtimes.graph_file(load_model(known, "cpu"))
    if how == "failed":
        monkeypatch.setattr(sys, "executable", "/bin/false")
    if how == "broken":
        graph.parent.mkdir(parents=True)
        graph.write_bytes(b"no graph")
    line = [str(folder), "--model", str(known), "--device", "cpu"]
    assert main([*line, "-o", str(tmp_path / "one")]) == 0
    said, warned = capsys.readouterr()
    if how == "made":
        assert said.startswith("backend: ")
        assert said.count("\n") == 2
        assert main([*line, "-o", str(tmp_path / "two")]) == 0
        assert capsys.readouterr().out.count("\n") == 1
        assert [*graph.parent.iterdir()] == [graph]
    elif how == "failed":
        assert warned.count("\n") == 1
        assert "torch instead" in warned
        assert not [*graph.parent.iterdir()]
    torchs = tmp_path / "torch"
    assert main([*line, "-o", str(torchs), "--backend", "torch"]) == 0
    pil = pytest.importorskip("PIL.Image")
    pictures = [
        np.asarray(pil.open(out / "a.png")).astype(int)
        for out in (tmp_path / "one", torchs)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_graph_that_does_not_start_leaves_torch(known, caplog):
    graph = runtimes.graph_file(load_model(known, "cpu"))
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"no graph")
    assert Upscaler(known, "cpu").backend == "torch"
    assert "torch runs" in caplog.text


def test_a_broken_list_of_what_was_measured_is_left_out(known, tmp_path, caplog):
    for text in ("[", "[]", '{"paragonsr2_stream x4": ["openvino"]}'):
        (tmp_path / "config/paragon_archs/backends.json").write_text(text)
        assert measured.measured()["paragonsr2_stream x4"].faster()
        assert "is left out" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("name", measured.SHIPPED)
def test_what_auto_takes_is_in_the_docs(name):
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    start = f"| {name.removesuffix(' video')}, "
    rows = [line for line in text.splitlines() if line.startswith(start)]
    assert measured.SHIPPED[name].faster()
    assert any("**" in row for row in rows)  # a share that counts as faster


def test_pixels_are_read_off_headers(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "b.png").write_bytes(b"no picture")
    jobs = [Job(file, tmp_path / file.name) for file in sorted(folder.iterdir())]
    assert pixels_of(jobs) == (600, 0)
    refused = [Job(folder / "a.png", tmp_path / "a.png", "no")]
    assert pixels_of(refused) == (0, 0)


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
