"""The figures of the upscaling benchmarks come from real runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import paragon_archs
from benchmarks import host_path
from benchmarks.bounded import measure_command, measure_strips
from benchmarks.command_upscale import main as upscale_main
from benchmarks.upscaling import measure_exactness, measure_folder
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.benchmark_video import main
from paragon_archs.evaluation.flicker import measure_flicker
from paragon_archs.inference import Upscaler
from paragon_archs.weights import resolve


def scene(height, width):
    """A smooth scene with edges."""
    y, x = np.mgrid[:height, :width]
    layers = [127 + 100 * np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(3)]
    return np.stack(layers, 2).clip(0, 255).astype(np.uint8)


def test_temporal_mode_steadies_a_still_scene_at_no_cost():
    upscaler = Upscaler(resolve("paragonsr2_realtime_x2"), "cpu")
    for row in measure_flicker(upscaler, scene(64, 96), frames=6):
        assert row.lowered >= 0.25
        assert row.temporal_psnr >= row.single_psnr - 0.1


def test_exactness_is_measured():
    for row in measure_exactness(["paragonsr_nano", "paragonsr2_realtime"], (40, 21)):
        assert row.worst <= 1e-5
        assert row.rows < 40


def test_folder_speed_counts_every_image(tmp_path):
    torch.manual_seed(0)
    model = paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1)
    save_model(model, tmp_path / "m.safetensors", {})
    (tmp_path / "in").mkdir()
    for index in range(2):
        Image.fromarray(scene(20, 24)).save(tmp_path / "in" / f"{index}.png")
    speed = measure_folder(tmp_path / "m.safetensors", tmp_path / "in", 1, threads=2)
    assert (speed.images, speed.threads) == (2, 2)
    assert 0 < speed.network < 1
    assert min(speed.plain, speed.plain_kept, speed.ours) > 0


def test_what_a_frame_costs_the_host_is_counted_by_thread(capsys):
    assert host_path.main(["--frames", "48", "--size", "32x24"]) == 0
    printed = capsys.readouterr().out
    for name in ("decode", "prepare", "compute", "convert"):
        assert f"| video: {name} |" in printed


def test_folders_without_images_are_refused(tmp_path, capsys):
    for wrong in ([str(tmp_path)], [], [str(tmp_path), "--rounds", "0"]):
        assert upscale_main(wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_video_benchmark_prints_its_table(tmp_path, capsys):
    Image.fromarray(scene(40, 48)).save(tmp_path / "scene.png")
    arguments = [str(tmp_path / "scene.png"), "--frames", "2", "--device", "cpu"]
    assert main(arguments) == 0
    rows = capsys.readouterr().out.strip().splitlines()
    assert len(rows) == 5
    assert all("%" in row and "dB" in row for row in rows[2:])
    with pytest.raises(SystemExit):
        main(["--frames"])


def test_strips_are_timed_beside_the_whole():
    (row,) = measure_strips(["paragonsr_nano"], (48, 32), rounds=1, threads=1)
    assert row.sweeps > 1
    assert min(row.whole, row.strips, row.ratio) > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no VmHWM elsewhere")
def test_a_commands_peak_is_measured(tmp_path):
    cost = measure_command(resolve("paragonsr2_realtime_x2"), (40, 30))
    assert 50 * 2**20 < cost.peak < 8 * 2**30
    assert cost.seconds > 0
    (tmp_path / "m.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        measure_command(tmp_path / "m.safetensors", (8, 8))
