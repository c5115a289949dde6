"""The shell scripts' own logic, and the quickstart's images and report."""

from __future__ import annotations

import os
import stat
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.__main__ import main
from paragon_archs.evaluation import quickstart

FAKE_PYTHON = """#!/bin/bash
# Stands for an interpreter in a bare container: cv2 lacks libGL until the headless
# package is installed.
echo "$*" >> "$LOG"
case "$*" in
  "-c import cv2")
    [ -e "$LOG.headless" ] && exit 0
    echo "ImportError: $COMPLAINT" >&2; exit 1 ;;
  "-m pip show opencv-python") printf 'Name: opencv-python\\nVersion: 5.0.0.93\\n' ;;
  *"install"*"opencv-python-headless"*) touch "$LOG.headless" ;;
esac
"""


def headless(root, tmp_path, complaint):
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    log = tmp_path / "log"
    done = subprocess.run(
        ["bash", "-euc", ". scripts/environment.sh; PY=$FAKE; use_headless_cv2"],
        cwd=root,
        env={**os.environ, "FAKE": str(fake), "LOG": str(log), "COMPLAINT": complaint},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, log.read_text().splitlines()


def test_cv2_without_libgl_is_replaced_by_its_headless_twin(root, tmp_path):
    complaint = "libGL.so.1: cannot open shared object file: No such file or directory"
    done, log = headless(root, tmp_path, complaint)
    assert done.returncode == 0, done.stderr
    assert "libGL.so.1" in done.stdout
    assert "-m pip uninstall -q -y opencv-python" in log
    assert any(line.endswith("opencv-python-headless==5.0.0.93") for line in log)
    assert log[-1] == "-c import cv2"


def test_another_fault_of_cv2_is_shown_and_nothing_is_replaced(root, tmp_path):
    done, log = headless(root, tmp_path, "numpy.core.multiarray failed to import")
    assert done.returncode != 0
    assert "multiarray" in done.stderr
    assert log == ["-c import cv2"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("quickstart") / "data"
    assert main(["quickstart", "images", "-o", str(folder), "--scale", "2"]) == 0
    return folder


def test_training_and_validation_photographs_are_apart(photographs):
    names = {
        part: {p.name for p in (photographs / part / "hr").iterdir()}
        for part in ("train", "val")
    }
    assert names["train"] and names["val"]
    assert not names["train"] & names["val"]
    for part, files in names.items():
        for name in files:
            with (
                Image.open(photographs / part / "hr" / name) as high,
                Image.open(photographs / part / "lr" / name) as low,
            ):
                assert high.size == (low.width * 2, low.height * 2)


def test_report_fails_a_network_that_does_not_beat_bicubic(
    photographs, tmp_path, capsys
):
    model = tmp_path / "fresh.safetensors"
    save_model(paragon_archs.create("paragonsr_nano", 2, num_groups=1), model)
    picture = tmp_path / "side_by_side.png"
    upscaled = photographs / "val" / "hr" / "chelsea.png"
    code = main(
        [
            *("quickstart", "report", "--model", str(model)),
            *("--data", str(photographs), "--upscaled", str(upscaled)),
            *("-o", str(picture)),
        ]
    )
    assert code == 1
    captured = capsys.readouterr()
    assert "chelsea" in captured.err
    # Against the known figure of this photograph, so that the table cannot drift.
    row = next(line for line in captured.out.splitlines() if "chelsea" in line)
    assert float(row.split("|")[2]) == pytest.approx(33.9, abs=3)
    with Image.open(picture) as sheet:
        assert sheet.width > 4 * 256


def test_psnr_and_rounding():
    a = np.zeros((4, 4, 3), np.uint8)
    assert quickstart.psnr(a, a) == float("inf")
    assert quickstart.psnr(a, a + 255) == pytest.approx(0)
    levels = torch.tensor([0.4999, 0.5001, 254.5001, 300, -3, 1]).double() / 255
    pixels = quickstart.to_bytes(levels.view(1, 1, 1, 6).expand(1, 3, 1, 6))
    assert pixels[0, :, 0].tolist() == [0, 1, 255, 255, 0, 1]
