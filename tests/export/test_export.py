"""ONNX graphs: the contract of their consumers, and the command that writes them."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch
from common import image, randomise, small_model
from torch import nn

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.cli import progress
from paragon_archs.cli.export import main
from paragon_archs.cli.info import main as info
from paragon_archs.export import GraphMismatchError, export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(path, *inputs):
    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, [x.numpy() for x in inputs], strict=True)))


def small(scale=2, **overrides):
    return randomise(
        paragon_archs.create("paragonsr_nano", scale, num_groups=1, **overrides)
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "2xSmall.safetensors"
    save_model(small(), file)
    return file


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_contract(tmp_path, dtype):
    model = small(3)
    found = export_onnx(model, tmp_path / "g.onnx", dtype=dtype)
    assert found.passed
    proto = onnx.load(tmp_path / "g.onnx")
    assert proto.ir_version <= 9
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    assert [p.name for p in tmp_path.iterdir()] == ["g.onnx"]
    (given,), (answer,) = proto.graph.input, proto.graph.output
    assert (given.name, answer.name) == ("input", "output")
    for value, names in (
        (given, ["batch", 3, "height", "width"]),
        (answer, ["batch", 3, "3*height", "3*width"]),
    ):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT
        assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == names
    # What chaiNNer and vs-mlrt do: set the size, infer the output's.
    for axis, size in zip(
        given.type.tensor_type.shape.dim, (1, 3, 16, 16), strict=True
    ):
        axis.dim_value = size
    answer.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    shape = inferred.graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim][1:] == [3, 48, 48]
    halves = [t for t in proto.graph.initializer if t.data_type == 10]
    assert bool(halves) == (dtype == "fp16")
    text = str(proto.metadata_props) + str([n.doc_string for n in proto.graph.node])
    assert "site-packages" not in text
    assert not any(n.metadata_props for n in proto.graph.node)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (23, 17), (9, 38)])
def test_graph_answers_at_other_sizes(tmp_path_factory, checkpoint, size):
    graph = checkpoint.with_suffix(".onnx")
    if not graph.exists():
        assert main([str(checkpoint), "-o", str(graph)]) == 0
    x = image(2, 3, *size)
    want = small()(x).detach().numpy()
    np.testing.assert_allclose(run(graph, x)[0], want, atol=1e-4 * want.std(), rtol=0)


@pytest.mark.parametrize("video", [False, True], ids=["", "video"])
def test_info_opens_a_graph(tmp_path, capsys, video):
    """The network's hyperparameters are in our graphs; graphs of others say less."""
    model = small_model("realtime", 3)
    graph = tmp_path / "g.onnx"
    export_onnx(model, graph, video=video)
    assert info([str(graph)]) == 0
    printed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["architecture", "ParagonSR2"] in printed
    assert ["form", "ONNX video graph" if video else "ONNX graph"] in printed
    assert ["scale", "3"] in printed
    assert ["num_blocks", "1"] in printed
    proto = onnx.load(graph)
    del proto.metadata_props[:]
    onnx.save(proto, graph)
    assert info([str(graph), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["architecture"], found["scale"]) == ("unknown", 3)


def test_static_size(tmp_path):
    export_onnx(small(), tmp_path / "g.onnx", static=(6, 10), opset=20)
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"))
    assert session.get_inputs()[0].shape == [1, 3, 6, 10]
    assert session.get_outputs()[0].shape == [1, 3, 12, 20]


class Shifty(nn.Module):
    """Answers otherwise when it is traced: the fault a check must catch."""

    def forward(self, x):
        return x + 1 if torch.compiler.is_exporting() else x


def test_a_graph_that_differs_leaves_no_file(tmp_path):
    with pytest.raises(GraphMismatchError, match="as torch does"):
        export_onnx(Shifty(), tmp_path / "g.onnx")
    assert not list(tmp_path.iterdir())


class Cancelling(nn.Module):
    """Loses digits in float32, as its graph must: no fault of the graph."""

    def forward(self, x):
        return (x + 4096) * 2 - (x + 8192)


def test_a_network_that_magnifies_rounding_is_exported(tmp_path):
    export_onnx(Cancelling(), tmp_path / "g.onnx")
    assert (tmp_path / "g.onnx").is_file()


def test_failed_check_exits_1(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("paragon_archs.export.check.BOUNDS", {"fp32": (0.0, 0.0)})
    monkeypatch.setattr("paragon_archs.export.check.CONDITIONING", 0.0)
    assert main([str(checkpoint), "-o", str(tmp_path / "g.onnx")]) == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-o", "g.onnx", "--dtype", "bf16"], "TensorRT"),
        (["-o", "g.onnx", "--opset", "21"], "18, 19, 20"),
        (["-o", "g.onnx", "--scale", "3"], "--scale to be 2"),
        (["-o", "g.txt"], ".onnx"),
        ([], "-o OUT.onnx"),
        (["-o", "g.onnx", "--out-dir", "o"], "both"),
        (["-o", "g.onnx", "--checkpoint", "b.pth"], "one checkpoint"),
        (["-o", "g.onnx", "--min", "9x9", "--opt", "8x8"], "ascend"),
    ],
)
def test_wrong_use_is_one_sentence(
    checkpoint, flags, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main([str(checkpoint), *flags]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_s_network_that_torch_cannot_follow_is_one_sentence(tmp_path, capsys):
    """Spandrel's SwinIR mirrors the border: no image of one pixel passes."""
    swinir = importlib.import_module("spandrel.architectures.SwinIR").SwinIR
    model = swinir(
        img_size=8,
        embed_dim=4,
        depths=[1],
        num_heads=[1],
        window_size=8,
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    torch.save(model.state_dict(), tmp_path / "s.pth")
    assert main([str(tmp_path / "s.pth"), "-o", str(tmp_path / "s.onnx")]) == 1
    printed = capsys.readouterr().err
    assert "SwinIR at every size" in printed
    assert [p.name for p in tmp_path.iterdir()] == ["s.pth"]


def test_progress_has_a_share_and_the_time_that_is_left(
    checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "_JSON_EVERY", 0)
    out = str(tmp_path / "g.onnx")
    assert main([str(checkpoint), "-o", out, "--progress", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    shares = [line["fraction"] for line in lines]
    assert shares == sorted(shares)
    # While torch captures, not only between the steps.
    assert len({share for share in shares if 0 < share < 0.3}) > 3
    assert shares[-1] > 0.9
    assert any(line["eta"] for line in lines if line["task"].startswith("tracing"))
