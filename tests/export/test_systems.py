"""Every system's deploy form as a graph: operators, sizes, video, older runtimes."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
import torch
from common import SMALL, image, small_model
from PIL import Image

from paragon_archs.archs import create
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.convert_onnx_release import main as convert
from paragon_archs.cli.export import main as export
from paragon_archs.export import export_onnx
from paragon_archs.export import onnx as graphs

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# The operators that TensorRT's published matrix marks as supported, as far as image
# networks come near them: github.com/onnx/onnx-tensorrt, docs/operators.md at 96e7811
# ("ONNX-TensorRT 10.1 GA release"; opsets 9 to 20 of the default domain).
TENSORRT = frozenset(
    "Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose "
    "DepthToSpace Div Equal Erf Exp Expand Flatten Floor Gather Gemm "
    "GlobalAveragePool Greater GreaterOrEqual Identity InstanceNormalization "
    "LayerNormalization LeakyRelu Less LessOrEqual Log MatMul Max Min Mul Neg Not Or "
    "Pad Pow Range ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Shape "
    "Sigmoid Sign Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh "
    "Tile Transpose Unsqueeze Where".split()
)
HALVES = ("realtime", "photo", "fusionsr", "facesr")


@pytest.fixture(scope="module", params=SMALL)
def graph(request, tmp_path_factory):
    """A system's name and its graph; the export itself compares four odd sizes."""
    file = tmp_path_factory.mktemp("graphs") / f"{request.param}.onnx"
    dtype = "fp16" if request.param in HALVES else "fp32"
    assert export_onnx(small_model(request.param), file, dtype=dtype).passed
    return request.param, file


def test_operators_are_tensorrt_s(graph):
    proto = onnx.load(graph[1])
    assert {n.op_type for n in proto.graph.node} <= TENSORRT
    assert {n.domain for n in proto.graph.node} == {""}


# What the same matrix restricts: inputs that have to be known when the graph is read.
CONSTANT_INPUTS = {
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceMin": 1,
    "ReduceSum": 1,
    "Pad": 3,
    "Slice": 3,
    "Squeeze": 1,
    "Unsqueeze": 1,
}


def test_restrictions_of_tensorrt_are_kept(graph):
    proto = onnx.load(graph[1])
    known = {t.name for t in proto.graph.initializer} | {
        n.output[0] for n in proto.graph.node if n.op_type == "Constant"
    }
    for node in proto.graph.node:
        axes = CONSTANT_INPUTS.get(node.op_type)
        if axes is not None and len(node.input) > axes and node.input[axes]:
            assert node.input[axes] in known, node.op_type
        if node.op_type == "LayerNormalization":
            assert len(node.output) == 1
        if node.op_type == "Resize":
            attributes = {
                a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
            }
            assert attributes["mode"] in (b"nearest", b"linear")
            assert not attributes.get("antialias")


# Measured with two blocks, and a little more.
NODES = {"photo": 340, "pro": 380, "fusionsr": 310}


def test_blocks_share_what_depends_on_the_size(graph):
    """Tables of places are in the graph once, and a block is few nodes."""
    proto = onnx.load(graph[1])
    kinds = [n.op_type for n in proto.graph.node]
    assert len(kinds) <= NODES.get(graph[0], 220)
    assert kinds.count("Range") <= 7


def test_squares_stay_in_float32(graph):
    """In a graph of half precision the norms read casts to float32."""
    proto = onnx.load(graph[1])
    if graph[0] not in HALVES:
        assert not [t for t in proto.graph.initializer if t.data_type == 10]
        return
    widened = {
        n.output[0]
        for n in proto.graph.node
        if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.FLOAT
    }
    norms = ("LayerNormalization", "Pow")
    for node in proto.graph.node:
        if node.op_type in norms:
            assert node.input[0] in widened


def test_onnxruntime_1_17(graph, tmp_path):
    """The runtime that chaiNNer and VapourSynth's plug-ins pin."""
    python = os.environ.get("PARAGON_ORT117_PYTHON")
    if not python:
        pytest.skip("PARAGON_ORT117_PYTHON names no Python with onnxruntime 1.17.1")
    x = image(1, 3, 13, 21)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys, numpy, onnxruntime\n"
        "assert onnxruntime.__version__ == '1.17.1', onnxruntime.__version__\n"
        "graph, folder = sys.argv[1:]\n"
        "s = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])\n"
        "y = s.run(None, {'input': numpy.load(folder + '/x.npy')})[0]\n"
        "numpy.save(folder + '/y.npy', y)\n"
    )
    subprocess.run([python, "-c", code, str(graph[1]), str(tmp_path)], check=True)
    with torch.no_grad():
        want = small_model(graph[0])(x).numpy()
    bound = (2e-2 if graph[0] in HALVES else 1e-4) * want.std()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, atol=bound, rtol=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_model(small_model("realtime"), file)
    return file


def test_convert_onnx_release_checks_its_claims(checkpoint, tmp_path, capsys):
    command = ["--checkpoint", str(checkpoint), "--output", str(tmp_path)]
    assert convert([*command, "--scale", "4"]) == 2
    assert convert([*command, "--detail_gain", "7"]) == 2
    assert "--detail_gain" in capsys.readouterr().err
    assert convert([*command, "--val_dir", str(tmp_path / "none")]) == 2
    assert convert([*command, "--val_dir", str(tmp_path)]) == 2
    assert "holds none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_convert_onnx_release_compares_on_pictures(tmp_path, capsys, monkeypatch):
    """In the network's channels; one that differs does not replace what is there."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(tmp_path / "a.png")
    model = create("paragonsr2_realtime", 2, num_blocks=1, in_chans=1)
    save_model(model, tmp_path / "gray.pth")
    command = ["--checkpoint", str(tmp_path / "gray.pth"), "--val_dir", str(tmp_path)]
    command += ["--output", str(tmp_path)]
    assert convert(command) == 0
    assert "a.png: differs by at most" in capsys.readouterr().out
    graph = tmp_path / "gray.onnx"
    before = graph.read_bytes()

    real, calls = graphs.session_runner, []

    def black(*arguments, **more):
        """As it is for the comparison at odd sizes, then black for the pictures."""
        calls.append(arguments)
        if len(calls) == 1:
            return real(*arguments, **more)
        return lambda arrays: [np.zeros((1, 1, 18, 14), np.float32)]

    monkeypatch.setattr(graphs, "session_runner", black)
    assert convert([*command, "--overwrite"]) == 1
    assert "a.png" in capsys.readouterr().err
    assert graph.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_video_needs_memory(tmp_path, capsys):
    file = tmp_path / "a.safetensors"
    save_model(small_model("resshuffle"), file)
    assert export([str(file), "-o", str(tmp_path / "a.onnx"), "--video"]) == 2
    assert "memory" in capsys.readouterr().err
