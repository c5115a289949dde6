"""The README is held to the code."""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np
import pytest
import torch
from engine_common import write_images

from paragon_archs.checkpoint import load_model
from paragon_archs.cli.__main__ import main
from paragon_archs.utils.registry import HAS_BASICSR


def test_variants_table_is_what_the_command_prints(root, capsys):
    assert main(["variants", "--markdown"]) == 0
    assert capsys.readouterr().out in (root / "README.md").read_text()


def test_public_names_exist_with_their_signatures(root):
    text = (root / "README.md").read_text()
    rows = re.findall(r"^\| `(paragon_archs\.[\w.]+)(?:\(([^`]*)\))?` \|", text, re.M)
    assert len(rows) >= 7
    for path, arguments in rows:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if callable(found):
            names = [a.split("=")[0].strip(" *") for a in arguments.split(",")]
            parameters = list(inspect.signature(found).parameters)
            assert parameters == [n for n in names if n], path


def test_python_examples_run(root, tmp_path, monkeypatch):
    """All of them, one after the other; the three of daily use gave what they say."""
    onnxruntime = pytest.importorskip("onnxruntime")
    text = (root / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", side=40)
    (tmp_path / "data" / "hr").rename(tmp_path / "photos")
    ran = {}
    for example in examples:
        if "paragon_archs.cli.train" in example and not HAS_BASICSR:
            continue
        for word in ("Upscaler(", "cli.train", "export_onnx("):
            if word in example:
                assert len(example.splitlines()) <= 10
                ran[word] = {}
                names = ran[word]
                break
        else:
            names = {}
        exec(compile(example, "README.md", "exec"), names)
    tiny = load_model("tiny.safetensors")
    upscaled = ran["Upscaler("]
    x = torch.from_numpy(upscaled["pixels"]).permute(2, 0, 1)[None] / 255
    want = (tiny(x)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(upscaled["grown"] - want).max() <= 1
    session = onnxruntime.InferenceSession("tiny.onnx")
    with torch.no_grad():
        want = tiny.model(x).numpy()
    (got,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    if HAS_BASICSR:
        trained = load_model("experiments/mine/models/net_g_latest.safetensors")
        assert (trained.tags[0], trained.scale) == ("paragonsr2_realtime", 2)
