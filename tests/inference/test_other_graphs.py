"""ONNX graphs as other programs write them; models by their shipped names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paragon_archs.inference import Upscaler

CASES = Path(__file__).parents[1] / "media" / "cases"


@pytest.mark.parametrize("name", ["F30_fp16.onnx", "F32_two.onnx"])
def test_graphs_of_other_inputs_and_outputs(name):
    pytest.importorskip("onnxruntime")
    upscaler = Upscaler(CASES / name, "cpu", providers=["cpu"])
    array = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)
    assert upscaler.scale == 2
    wanted = array.repeat(2, 0).repeat(2, 1)  # both graphs repeat pixels
    np.testing.assert_array_equal(upscaler.image(array), wanted)


def test_a_shipped_name_is_a_model():
    assert Upscaler("paragonsr2_realtime_x2", "cpu").scale == 2


@pytest.mark.parametrize("verbose", [False, True])
def test_warnings_of_libraries_are_no_source_lines(verbose):
    code = "import warnings; from paragon_archs.cli.common import set_up_logging; "
    code += f"set_up_logging({verbose}); warnings.warn('odd data')"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stderr == ("WARNING: odd data\n" if verbose else "")


def test_a_home_folder_is_one(tmp_path, monkeypatch):
    source = CASES / "F32_two.onnx"
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "two.onnx").write_bytes(source.read_bytes())
    assert Upscaler("~/two.onnx", "cpu", providers=["cpu"]).scale == 2
