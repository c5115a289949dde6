"""ncnn models: the files that its programs open, checked, or one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import image, small_model

from paragon_archs.checkpoint import save_model
from paragon_archs.cli.export import main
from paragon_archs.export.ncnn import export_ncnn

ncnn = pytest.importorskip("ncnn")
pytest.importorskip("pnnx")


@pytest.mark.parametrize(
    "name", ["paragonsr", "stream", "photo_export_safe", "resshuffle", "facesr"]
)
def test_networks_of_convolutions_convert(name, tmp_path):
    """The export itself compares three odd sizes."""
    assert export_ncnn(small_model(name), tmp_path / "a.ncnn").passed
    assert {p.name for p in tmp_path.iterdir()} == {"a.ncnn.param", "a.ncnn.bin"}


@pytest.mark.parametrize("name", ["photo", "fusionsr"])
def test_what_ncnn_lacks_is_named(name, tmp_path, capsys):
    save_model(small_model(name), tmp_path / "a.pth")
    assert main([str(tmp_path / "a.pth"), "-o", str(tmp_path / "a.ncnn")]) == 1
    printed = capsys.readouterr().err
    assert "Expected ncnn to have every operator" in printed
    assert "Use an .onnx graph" in printed
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_command_writes_what_upscayl_opens(tmp_path, capsys):
    """Blobs are called data and output; weights in half precision are half as big."""
    model = small_model("realtime")
    save_model(model, tmp_path / "a.pth")
    out = tmp_path / "x2.param"
    command = [str(tmp_path / "a.pth"), "-o", str(out)]
    assert main(command) == 0
    assert "checked against torch" in capsys.readouterr().out
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--dtype", "bf16"]) == 2
    assert main([*command, "--overwrite", "--static", "8x8"]) == 2
    size = out.with_suffix(".bin").stat().st_size
    assert main([*command, "--overwrite", "--dtype", "fp16"]) == 0
    assert out.with_suffix(".bin").stat().st_size < 0.7 * size
    net = ncnn.Net()
    assert not net.load_param(str(out))
    assert not net.load_model(str(out.with_suffix(".bin")))
    x = image(1, 3, 33, 21)
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(x[0].numpy()).clone())
    failed, y = extractor.extract("output")
    assert not failed
    with torch.no_grad():
        want = model(x)[0].numpy()
    np.testing.assert_allclose(y.numpy(), want, atol=2e-2 * want.std(), rtol=0)
