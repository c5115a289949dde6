"""Every published command line, as it was printed, with files small enough for a test.

Each line runs in a folder that looks like a checkout (the real scripts and options),
or like a traiNNer-redux checkout after `paragon integrate`; what it wrote is checked.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from common import execute, randomise
from PIL import Image

from paragon_archs.archs import create
from paragon_archs.checkpoint import load_model, read_metadata, save_model
from paragon_archs.cli.__main__ import main as paragon
from paragon_archs.inference import Upscaler
from paragon_archs.media import encoders

S = {"num_groups": 1, "num_blocks": 1}
PHOTO = {"num_groups": 1, "num_blocks": 1}  # 64 channels, as in trtexec's line
NAME = "4xParagonSR_S_pretrain"


def picture(file: Path, height: int = 12, width: int = 10) -> None:
    rng = np.random.default_rng(len(file.name))
    values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(file)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Small networks of the published variants, by the names in the lines."""
    folder = tmp_path_factory.mktemp("weights")
    photo = randomise(create("paragonsr2_photo", 2, **PHOTO))
    save_model(photo, folder / "model.safetensors")
    save_model(randomise(create("paragonsr_s", 4, **S)), folder / f"{NAME}.safetensors")
    return folder


@pytest.fixture
def checkout(root, weights, tmp_path, monkeypatch):
    """A folder with this project's scripts, weights and an image; we stand in it."""
    monkeypatch.chdir(furnish(tmp_path, root, weights))
    return tmp_path


def furnish(folder: Path, root: Path, weights: Path) -> Path:
    (folder / "scripts").symlink_to(root / "scripts")
    (folder / "model.safetensors").symlink_to(weights / "model.safetensors")
    picture(folder / "input.png")
    return folder


@pytest.fixture
def trainner(weights, tmp_path, monkeypatch):
    """A traiNNer-redux checkout with our files; we stand in it."""
    (tmp_path / "traiNNer/archs").mkdir(parents=True)
    assert paragon(["integrate", "trainner-redux", str(tmp_path)]) == 0
    (tmp_path / "models").mkdir()
    file = f"models/{NAME}.safetensors"
    (tmp_path / file).symlink_to(weights / f"{NAME}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_graph(file: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def answer(weights_file: Path, x: np.ndarray) -> np.ndarray:
    """The trained network's own answer, in its training form."""
    with torch.no_grad():
        return load_model(weights_file).model(torch.from_numpy(x)).numpy()


# --- inside a traiNNer-redux checkout --------------------------------------------

FUSE = (
    f"python -m scripts.paragonsr.fuse_model --checkpoint models/{NAME}.safetensors "
    "--out-dir release_models --variant s --scale 4"
)
EXPORT = (
    f"python -m scripts.paragonsr.export_onnx --checkpoint {{}}/{NAME}{{}}.safetensors "
    "--variant s --scale 4 --out-dir onnx --opset 18"
)


def check_fused(weights: Path) -> None:
    fused = load_model(f"release_models/{NAME}_fused.safetensors")
    assert fused.tags[-1] == "fused"
    x = noise(1, 3, 9, 7)
    with torch.no_grad():
        got = fused.model(torch.from_numpy(x)).numpy()
    want = answer(weights / f"{NAME}.safetensors", x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * want.std())
    metadata = read_metadata(f"release_models/{NAME}_fused.safetensors")
    assert metadata["form"] == "fused"


def check_graphs(weights: Path, name: str) -> None:
    x = noise(1, 3, 13, 6)
    want = answer(weights / f"{NAME}.safetensors", x)
    for dtype, bound in (("fp32", 1e-4), ("fp16", 2e-2)):
        (got,) = run_graph(Path(f"onnx/{name}_op18_{dtype}.onnx"), input=x)
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * want.std())
    assert len(list(Path("onnx").iterdir())) == 2


def test_fuse_then_export_in_trainner_redux(trainner, weights):
    assert execute(FUSE) == 0
    check_fused(weights)
    assert execute(EXPORT.format("release_models", "_fused")) == 0
    check_graphs(weights, f"{NAME}_fused")


def test_fuse_and_export_in_ours(checkout, weights):
    (checkout / "models").mkdir()
    source = weights / f"{NAME}.safetensors"
    (checkout / f"models/{NAME}.safetensors").symlink_to(source)
    for line in (FUSE, EXPORT.format("models", "")):  # one that is not fused yet
        ours = re.sub(r"-m scripts\.paragonsr\.(\w+)", r"scripts/\1.py", line)
        assert execute(ours) == 0
    check_fused(weights)
    check_graphs(weights, NAME)


# --- graphs ----------------------------------------------------------------------

CONVERT = (
    "python scripts/convert_onnx_release.py --arch paragonsr2_photo --scale 2 "
    "--checkpoint model.safetensors"
)
TRTEXEC = (
    "trtexec --onnx=model.onnx --saveEngine=model.trt --fp16 "
    "--minShapes=input:1x3x64x64 --optShapes=input:1x3x720x1280 "
    "--maxShapes=input:1x3x1080x1920"
)
TRTEXEC_VIDEO = (
    "trtexec --onnx=model_video.onnx --saveEngine=model.trt --fp16 "
    "--minShapes=input:1x3x64x64,prev_feat:1x64x64x64 "
    "--optShapes=input:1x3x720x1280,prev_feat:1x64x720x1280 "
    "--maxShapes=input:1x3x1080x1920,prev_feat:1x64x1080x1920"
)


@pytest.fixture(scope="module")
def graphs(root, weights, tmp_path_factory):
    """A checkout in which both of the published lines ran."""
    pytest.importorskip("onnxruntime")
    folder = furnish(tmp_path_factory.mktemp("graphs"), root, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for flags in ("", " --video"):
            assert execute(CONVERT + flags) == 0
    names = {p.name for p in folder.glob("*.onnx")}
    assert names == {"model.onnx", "model_video.onnx"}
    return folder


def test_convert_onnx_release(graphs, weights):
    x = noise(1, 3, 9, 14)
    want = answer(weights / "model.safetensors", x)
    (got,) = run_graph(graphs / "model.onnx", input=x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * want.std())


def test_convert_onnx_release_for_video(graphs, weights):
    model = load_model(weights / "model.safetensors").model
    x, before = noise(2, 3, 9, 7), noise(2, 64, 9, 7)
    before[0] = 0  # no frame before this one; the other has one
    got = run_graph(graphs / "model_video.onnx", input=x, prev_feat=before)
    frames, history = torch.from_numpy(x), torch.from_numpy(before)
    with torch.no_grad():
        fresh = model(frames[:1], True)
        blended = model(frames[1:], True, history[1:])
    for index, wanted in enumerate((fresh, blended)):
        for have, want in zip(got, wanted, strict=True):
            bound = 1e-4 * float(want.std())
            frame = have[index : index + 1]
            np.testing.assert_allclose(frame, want.numpy(), rtol=0, atol=bound)


def test_convert_onnx_release_with_every_flag(checkout, capsys):
    pytest.importorskip("onnxruntime")
    flags = (
        "--output made --opset 19 --val_dir . --val_count 1 --upsampler_alpha 0.1 "
        "--detail_gain {:.6f} --attention_mode sdpa --window_size 8"
    )
    network = load_model("model.safetensors", overrides={"upsampler_alpha": 0.1})
    gain = network.model.get_parameter("detail_gain").item()
    assert execute(f"{CONVERT} {flags.format(gain)}") == 0
    assert re.search(r"input\.png: differs by at most \d", capsys.readouterr().out)
    x = noise(1, 3, 11, 6)
    overrides = {"upsampler_alpha": 0.1, "window_size": 8}
    model = load_model("model.safetensors", overrides=overrides).model
    with torch.no_grad():
        want = model(torch.from_numpy(x)).numpy()
    (got,) = run_graph(Path("made/model.onnx"), input=x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * want.std())
    assert np.abs(got - answer(checkout / "model.safetensors", x)).max() > 1e-3
    # Weights that were trained with attention do not lose it without a word.
    assert execute(f"{CONVERT} --output safe --export_safe") == 2
    assert "trained with it" in capsys.readouterr().err
    assert not (checkout / "safe").exists()


@pytest.mark.parametrize("line", [TRTEXEC, TRTEXEC_VIDEO], ids=["still", "video"])
def test_trtexec_takes_our_graph(line, graphs):
    """trtexec is no part of this suite: each of its shapes has to fit the graph."""
    onnx = pytest.importorskip("onnx")
    flags = dict(f[2:].split("=") for f in shlex.split(line)[1:] if "=" in f)
    for option in ("minShapes", "optShapes", "maxShapes"):
        shapes = {
            name: [int(n) for n in shape.split("x")]
            for name, _, shape in (p.partition(":") for p in flags[option].split(","))
        }
        proto = onnx.load(graphs / flags["onnx"])
        assert {i.name for i in proto.graph.input} == set(shapes)
        for value in proto.graph.input:
            axes = value.type.tensor_type.shape.dim
            for axis, size in zip(axes, shapes[value.name], strict=True):
                assert axis.dim_param or axis.dim_value == size
                axis.dim_value = size
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(
            proto, strict_mode=True, data_prop=True
        )
        found = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in inferred.graph.output
        }
        _, _, height, width = shapes["input"]
        assert found["output"][1:] == [3, 2 * height, 2 * width]
        if "prev_feat" in shapes:
            assert found["feature_map"][1:] == shapes["prev_feat"][1:]
        if option == "minShapes":
            inputs = {n: noise(*shape) for n, shape in shapes.items()}
            got = run_graph(graphs / flags["onnx"], **inputs)
            assert got[0].shape == (1, *found["output"][1:])


# --- upscaling -------------------------------------------------------------------

RUN = (
    "python scripts/run_inference.py --input {} --model {} --arch paragonsr2_photo "
    "--scale 2"
)
IMAGE = RUN.format("input.png", "model.safetensors")


def pixels(file: str | Path) -> np.ndarray:
    with Image.open(file) as opened:
        return np.asarray(opened).astype(int)


def test_run_inference(checkout):
    assert execute(IMAGE) == 0
    wanted = Upscaler("model.safetensors", "cpu").image(
        pixels("input.png").astype(np.uint8)
    )
    assert np.abs(pixels("output/input.png") - wanted).max() <= 1


@pytest.mark.parametrize(
    ("flags", "file"),
    [
        ("--output made", "made/input.png"),
        ("--fp32", "output/input.png"),
        ("--upsampler_alpha 0.4", "output/input.png"),
        ("--disable_compile", "output/input.png"),
        ("--no_temporal", "output/input.png"),
        ("--suffix _x2", "output/input_x2.png"),
    ],
)
def test_run_inference_s_flags(checkout, flags, file):
    assert execute(f"{IMAGE} {flags}") == 0
    assert [p.as_posix() for p in Path().glob("*/*.png")] == [file]
    wanted = Upscaler("model.safetensors", "cpu", dtype="fp32").image(
        pixels("input.png").astype(np.uint8)
    )
    assert np.abs(pixels(file) - wanted).max() <= 1


def test_run_inference_changes_what_it_is_told_to(checkout, capsys):
    assert execute(f"{IMAGE} --upsampler_alpha 0.9") == 0
    descriptor = load_model("model.safetensors", overrides={"upsampler_alpha": 0.9})
    wanted = Upscaler(descriptor, "cpu").image(pixels("input.png").astype(np.uint8))
    assert np.abs(pixels("output/input.png") - wanted).max() <= 1
    assert execute(f"{IMAGE} --output safe --export_safe") == 2
    assert "trained with it" in capsys.readouterr().err
    model = randomise(create("paragonsr2_photo", 2, **PHOTO, export_safe=True))
    (checkout / "model.safetensors").unlink()
    save_model(model, checkout / "model.safetensors")
    assert execute(f"{IMAGE} --output safe --export_safe") == 0
    wanted = Upscaler(load_model(model.state_dict()), "cpu").image(
        pixels("input.png").astype(np.uint8)
    )
    assert np.abs(pixels("safe/input.png") - wanted).max() <= 1


def test_run_inference_takes_a_folder(checkout):
    (checkout / "photos").mkdir()
    for name, width in (("a.png", 7), ("b.png", 9)):
        picture(checkout / "photos" / name, 8, width)
    assert execute(RUN.format("photos", "model.safetensors")) == 0
    found = {p.name: Image.open(p).size for p in (checkout / "output").iterdir()}
    assert found == {"a.png": (14, 16), "b.png": (18, 16)}


def movie(file: Path, frames: int = 3, height: int = 32, width: int = 48) -> None:
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coarse = np.kron(noise(4, 6, 3), np.ones((height // 4, width // 6, 1)))
        for index in range(frames):  # brighter and brighter, and no cut
            values = (coarse * (120 + 20 * index)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.mark.parametrize("model", ["model.safetensors", "model_video.onnx"])
def test_run_inference_takes_a_movie(checkout, graphs, model, monkeypatch):
    """With memory, whether weights or a graph with `prev_feat` give it."""
    av = pytest.importorskip("av")
    # x264's losses differ from run to run; at 0 it has none.
    lossless = encoders.Codec(0, {"preset": "ultrafast"})
    monkeypatch.setitem(encoders.CODECS, "libx264", lossless)
    movie(checkout / "movie.mp4")
    if model.endswith(".onnx"):
        (checkout / model).symlink_to(graphs / model)
    line = RUN.format("movie.mp4", model)
    for flags in ("", " --no_temporal --suffix _single"):
        assert execute(line + flags) == 0
    shown = {}
    for name in ("movie", "movie_single"):
        with av.open(str(checkout / f"output/{name}.mp4")) as opened:
            shown[name] = [f.to_ndarray(format="rgb24") for f in opened.decode(video=0)]
        assert [f.shape for f in shown[name]] == [(64, 96, 3)] * 3
    one, two = (np.stack(shown[n]).astype(int) for n in ("movie", "movie_single"))
    first, second, _ = np.abs(one - two).mean((1, 2, 3))
    assert first == 0  # no frame before the first
    assert second > 0.5  # the second one blends


def test_run_inference_with_an_engine_needs_tensorrt(checkout, capsys):
    if torch.cuda.is_available():
        pytest.skip("an engine may run here")
    movie(checkout / "movie.mp4")
    (checkout / "model.trt").write_bytes(b"no engine")
    assert execute(RUN.format("movie.mp4", "model.trt")) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "pip install tensorrt" in printed or "a cuda device" in printed
    assert not list((checkout / "output").iterdir())


# --- speed -----------------------------------------------------------------------

BENCHMARK = (
    "python scripts/benchmark_release.py --input {} --scale 2 --pt_model "
    "model.safetensors --arch paragonsr2_photo"
)


def test_benchmark_release(checkout, capsys):
    picture(checkout / "other.png", 10, 8)
    assert execute(BENCHMARK.format(".")) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[0] == "| form"
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    assert [c[0] for c in cells] == ["published", "deploy"]
    for _, count, seconds, megapixels, _ in cells:
        assert count == "2"
        assert float(seconds) >= 0
        assert float(megapixels) >= 0  # a busy machine rounds it to nothing


def test_benchmark_release_with_an_engine_needs_tensorrt(checkout, capsys):
    if torch.cuda.is_available():
        pytest.skip("an engine may run here")
    (checkout / "model.trt").write_bytes(b"no engine")
    assert execute(f"{BENCHMARK.format('.')} --trt_engine model.trt") == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "pip install tensorrt" in printed.err or "a cuda device" in printed.err
    assert printed.out == ""  # it is known before anything was timed


def test_contradictions_are_errors(checkout, capsys):
    """Flags that repeat what the checkpoint records are held to it."""
    for line in (CONVERT, IMAGE, BENCHMARK.format(".")):
        for wrong in ("--scale 3", "--arch paragonsr2_stream"):
            assert execute(f"{line} {wrong}") == 2
            assert "as recorded in 'model.safetensors'" in capsys.readouterr().err
    assert {p.name for p in checkout.iterdir()} <= {
        "scripts",
        "input.png",
        "model.safetensors",
        "output",
    }
    assert not list(checkout.glob("output/*"))
