"""The speed benchmark: what it counts, and the table it prints."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from common import image, small_model

from benchmarks import forms, peers, runtimes, speed
from benchmarks.command_release import main as release
from benchmarks.command_speed import main
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import measured


def test_forms_agree_and_multiply_adds_are_counted():
    model, x = small_model("paragonsr", 4), image(1, 3, 12, 10)
    found = {t.form: t for t in speed.measure(model, x, rounds=2, warmup=1)}
    assert list(found) == ["published", "fused", "deploy"]
    assert found["published"].ratio == 1
    assert all(t.error < 1e-4 for t in found.values())
    counts = {k: t.multiply_adds for k, t in found.items()}
    assert counts["published"] == counts["fused"]
    # At least what the merged head saves: (9 F M s^2 + 27 F s^2 - 16 F 3 s^2) pixels.
    saved = (9 * 24 * 24 * 16 + 27 * 24 * 16 - 16 * 24 * 48) * 120
    assert counts["fused"] is not None
    assert counts["deploy"] is not None
    assert counts["fused"] - counts["deploy"] > 0.8 * saved


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_build_at_their_scale(name):
    model = peers.build(name, 2)
    with torch.no_grad():
        assert model(image(1, 3, 16, 16)).shape == (1, 3, 32, 32)


def test_command_prints_a_table(capsys, tmp_path):
    file = tmp_path / "mine.safetensors"
    save_model(small_model("realtime"), file)
    flags = ["--size", "9x8", "--rounds", "2", "--scale", "2"]
    assert main([str(file), *flags]) == 0
    rows = [r for r in capsys.readouterr().out.splitlines() if r.startswith("| mine")]
    assert [r.split("|")[2].strip() for r in rows] == ["published", "fused", "deploy"]


def test_json_for_programs(capsys):
    flags = ["--size", "9x8", "--rounds", "2", "--scale", "2", "--json"]
    assert main(["paragonsr2_realtime", *flags, "--threads", "1"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["network"], row["scale"], row["size"]) == (
        "paragonsr2_realtime",
        2,
        [9, 8],
    )
    assert [form["form"] for form in row["forms"]] == ["published", "fused", "deploy"]
    assert all(form["seconds"] > 0 for form in row["forms"])


def timings(**seconds):
    return [
        speed.Timing(form.replace("_", "-"), s, 0, 1, None, s, 1e-3, 0.1, None, 0, None)
        for form, s in seconds.items()
    ]


def test_what_was_measured_is_learned(tmp_path, monkeypatch):
    found = timings(deploy=1.0, openvino=0.89, onnx=0.5)
    monkeypatch.setattr(speed, "measure", lambda *_: found)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    line = ["paragonsr2_realtime", "--learn", "--size", "100x100", "--threads", "1"]
    assert main(line) == 0
    learned = measured.measured()["paragonsr2_realtime x4"]
    assert learned.faster() == ["onnxruntime", "openvino"]
    assert learned.seconds == pytest.approx(100)


def test_runtimes_are_compared(capsys, tmp_path, monkeypatch):
    found = timings(deploy=1.0, onnx=0.5, openvino=1.2, openvino_bf16=0.4)
    monkeypatch.setattr(speed, "measure", lambda *_: found)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    measured.learn("paragonsr2_realtime x4", measured.Measured(1, {"onnxruntime": 0.6}))
    chart = tmp_path / "runtimes.svg"
    line = ["paragonsr2_realtime", "--runtimes", "--threads", "1", "2"]
    assert main([*line, "--picture", str(chart)]) == 0
    rows = [r for r in capsys.readouterr().out.splitlines() if r.startswith("| par")]
    assert [r.split("|")[2].strip() for r in rows] == ["1", "2", "1", "2"]
    assert "| **0.50** | 1.20 | - | onnxruntime, 1.00 |" in rows[0]
    assert "**0.40** (1e-03, 0.10 dB)" in rows[2]
    picture = chart.read_text()
    assert all(x in picture for x in ("OpenVINO", "paragonsr2_realtime x4, 96x96"))


@pytest.mark.parametrize(
    ("shares", "taken"),
    [
        ({}, "torch, 1.67 (slower)"),
        ({"onnxruntime": 0.9}, "onnxruntime, 1.03"),
        ({"onnxruntime": 0.9, "openvino": 0.8}, "OpenVINO, 1.00"),
    ],
)
def test_the_table_says_where_upscale_is_slower(shares, taken, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    measured.learn("a x4", measured.Measured(1, shares))
    found = {t.form: t for t in timings(deploy=1.0, onnx=0.62, openvino=0.6, ncnn=2)}
    row = runtimes.Row("a x4, 9x9", "a x4", 1, found)
    assert f"| {taken} |" in runtimes.table([row], forms.RUNTIMES)[-1]


FLOATS = [
    pytest.param(
        form,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None, reason=f"no {package}"
        ),
    )
    for form, package in (
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
        ("ncnn", "pnnx"),
    )
]


@pytest.mark.parametrize("form", FLOATS)
def test_other_runtimes_answer_as_torch_does(form):
    model, x = small_model("realtime", 2), image(1, 3, 12, 10)
    halves = [half for half in forms.HALVES if half.startswith(form)]
    asked = ["deploy", "deploy-bf16", form, *halves]
    found = {t.form: t for t in speed.measure(model, x, asked, rounds=2, warmup=1)}
    assert list(found) == [f for f in forms.FORMS if f in asked]
    assert found[form].error < 1e-4
    assert found[form].lost < 1e-4
    assert found["deploy"].beside_torch == 1
    assert 1e-5 < found["deploy-bf16"].error < 0.2
    assert all(found[half].error < 0.2 for half in halves)


def test_windows_are_left_out_of_ncnn(caplog):
    pytest.importorskip("pnnx")
    model = peers.build("paragonsr2_photo", 2)
    found = speed.measure(model, image(1, 3, 8, 8), ["deploy", "ncnn"], 0, 1)
    assert [t.form for t in found] == ["deploy"]
    assert "ncnn is left out" in caplog.text


def test_wrong_use(capsys):
    assert main(["paragonsr_z"]) == 2
    assert "paragonsr_z" in capsys.readouterr().err
    assert main(["paragonsr_nano", "--all"]) == 2
    assert "--all" in capsys.readouterr().err
    assert main(["paragonsr_nano", "--threads", "1", "2"]) == 2
    assert "--threads" in capsys.readouterr().err
    assert main(["--runtimes", "--forms", "onnx"]) == 2
    assert "deploy" in capsys.readouterr().err
    assert main(["paragonsr_nano", "--picture", "speed.png"]) == 2
    assert "speed.png" in capsys.readouterr().err


PEAKS = """
import torch
from benchmarks import speed
run = lambda _: torch.ones(3, 2**20).sum(0)  # 12 and 4 MiB
print([speed.peak_memory(run, torch.zeros(1)) for _ in range(3)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's high-water mark")
def test_peak_memory_counts_what_an_earlier_call_freed():
    """In a process of its own, whose heap no other test has filled."""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", PEAKS],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = ast.literal_eval(done.stdout)
    if peaks[0] is None:
        pytest.skip("the kernel or the C library does not report it")
    assert all(p is not None and 15 * 2**20 < p < 40 * 2**20 for p in peaks)


def test_sides_follow_the_work():
    sides = {
        n: speed.side_for(peers.build(n, 2)) for n in ("fusionsr", "paragonsr2_pro")
    }
    assert sides == {"fusionsr": 64, "paragonsr2_pro": 96}


def test_picture(tmp_path):
    speed.draw([("a x4", 10**6, 2.5), ("b x4", 10**5, 20)], tmp_path / "a.svg")
    assert "b x4" in (tmp_path / "a.svg").read_text()


def test_release_command(tmp_path, capsys):
    image_module = pytest.importorskip("PIL.Image")
    file = tmp_path / "model.safetensors"
    save_model(small_model("realtime"), file)
    image_module.new("RGB", (9, 7)).save(tmp_path / "a.png")
    command = ["--input", str(tmp_path), "--pt_model", str(file), "--scale", "2"]
    assert release(command) == 0
    assert "| deploy | 1 |" in capsys.readouterr().out
    assert release([*command, "--arch", "paragonsr2_stream", "--scale", "3"]) == 2
