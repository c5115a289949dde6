"""`paragon convert` and `paragon interpolate`."""

from __future__ import annotations

import pytest
import torch
from common import error_of, image, randomise
from safetensors import safe_open

from paragon_archs.archs import create
from paragon_archs.checkpoint import (
    load_model,
    read_metadata,
    read_state_dict,
    save_model,
)
from paragon_archs.cli.__main__ import main
from paragon_archs.fuse import fuse_model

PHOTO = {"num_feat": 16, "num_groups": 1, "num_blocks": 1}


@pytest.fixture
def photo(tmp_path):
    model = create("paragonsr2_photo", 2, **PHOTO, upsampler_alpha=0.25, window_size=8)
    save_model(randomise(model), tmp_path / "photo.safetensors", {"licence": "MIT"})
    return tmp_path / "photo.safetensors", model


def run(*arguments):
    assert main([str(a) for a in arguments]) == 0


def same(one, other, atol=0.0):
    x = image(1, 3, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x), rtol=0, atol=atol)


def test_released_layout_and_back(photo, tmp_path, capsys):
    file, model = photo
    released, ours = tmp_path / "released.pth", tmp_path / "ours.safetensors"
    run("convert", file, "-o", released, "--layout", "released")
    printed = capsys.readouterr().err
    assert "does not record upsampler_alpha 0.25 (opened with 0.4)" in printed
    assert "window_size 8 (opened with 16)" in printed
    want = {k for k in model.state_dict() if k != "settings"}
    assert set(read_state_dict(released)) == want
    create("paragonsr2_photo", 2, **PHOTO).load_state_dict(
        torch.load(released)["params"], strict=True
    )
    flags = ("--upsampler_alpha", "0.25", "--window_size", "8")
    run("convert", released, "-o", ours, "--layout", "ours", *flags)
    same(load_model(ours).model, model)


def test_a_layout_that_loses_nothing_warns_of_nothing(tmp_path, capsys):
    save_model(create("paragonsr2_realtime", 2), tmp_path / "a.pth")
    out = tmp_path / "b.pth"
    run("convert", tmp_path / "a.pth", "-o", out, "--layout", "released")
    assert capsys.readouterr().err == ""


def test_forms(tmp_path, capsys):
    model = randomise(create("paragonsr_nano", 2, num_groups=1))
    file, fused = tmp_path / "a.safetensors", tmp_path / "f.pth"
    save_model(model, file)
    run("convert", file, "-o", fused, "--form", "fused", "--format", "pth")
    descriptor = load_model(fused)
    assert descriptor.tags[-1] == "fused"
    same(descriptor.model, fuse_model(model))
    arguments = ["convert", fused, "-o", tmp_path / "t.pth", "--form", "training"]
    assert "which is fused" in error_of(capsys, arguments)
    save_model(create("paragonsr2_realtime", 2), tmp_path / "r.pth")
    arguments = ["convert", tmp_path / "r.pth", "-o", tmp_path / "t.pth"]
    assert "none to sum" in error_of(capsys, [*arguments, "--form", "fused"])
    assert not (tmp_path / "t.pth").exists()


@pytest.mark.parametrize(
    ("dtype", "want"), [("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_dtypes_keep_the_settings_and_the_metadata(photo, tmp_path, dtype, want):
    file, model = photo
    out, back = tmp_path / "half.safetensors", tmp_path / "whole.safetensors"
    run("convert", file, "-o", out, "--dtype", dtype)
    state = read_state_dict(out)
    assert state["settings"].tolist() == [250000, 8]
    assert {v.dtype for k, v in state.items() if k != "settings"} == {want}
    with safe_open(out, "pt") as opened:
        assert opened.metadata()["licence"] == "MIT"
    # What is not asked for stays as it is.
    run("convert", out, "-o", tmp_path / "again.safetensors")
    again = read_state_dict(tmp_path / "again.safetensors")
    assert again["conv_in.weight"].dtype == want
    run("convert", out, "-o", back, "--dtype", "fp32")
    same(load_model(back).model, model, atol=0.1)


def test_nothing_is_overwritten_silently(photo, tmp_path, capsys):
    file, _ = photo
    before = file.read_bytes()
    assert "exists" in error_of(capsys, ["convert", file, "-o", file])
    assert file.read_bytes() == before
    blend = ["interpolate", file, file, "--alpha", "0.5", "-o", file]
    assert "exists" in error_of(capsys, blend)
    mismatch = ["convert", file, "-o", tmp_path / "x.pth", "--format", "safetensors"]
    assert "--format" in error_of(capsys, mismatch)


def test_interpolation_blends_every_trained_entry(photo, tmp_path):
    file, first = photo
    second = create("paragonsr2_photo", 2, **PHOTO, upsampler_alpha=0.25, window_size=8)
    randomise(second, 1)
    save_model(second, tmp_path / "b.pth")
    out = tmp_path / "mix.safetensors"
    run("interpolate", file, tmp_path / "b.pth", "--alpha", "0.3", "-o", out)
    made_of = f"(1 - 0.3) * {file.name} + 0.3 * b.pth"
    assert read_metadata(out)["interpolated"] == made_of, "folders are private"
    mixed = read_state_dict(out)
    for name, a in first.state_dict().items():
        b = second.state_dict()[name]
        want = 0.7 * a + 0.3 * b if a.is_floating_point() else a
        torch.testing.assert_close(mixed[name], want, rtol=1e-6, atol=1e-7)
    run(
        "interpolate",
        file,
        tmp_path / "b.pth",
        "--alpha",
        "0",
        "-o",
        out,
        "--overwrite",
    )
    same(load_model(out).model, first)


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("paragonsr_nano", {"num_groups": 1}, "Only descendants"),
        ("paragonsr2_photo", {**PHOTO, "num_blocks": 2}, "num_blocks is 1"),
        ("paragonsr2_photo", PHOTO, "upsampler_alpha is 0.25"),
    ],
)
def test_only_relatives_blend(photo, tmp_path, capsys, variant, options, message):
    save_model(create(variant, 2, **options), tmp_path / "b.pth")
    arguments = ["interpolate", photo[0], tmp_path / "b.pth", "--alpha", "0.3"]
    arguments += ["-o", tmp_path / "mix.pth"]
    assert message in error_of(capsys, arguments)
    arguments[4] = "1.3"
    assert "from 0 to 1" in error_of(capsys, arguments)
    assert not (tmp_path / "mix.pth").exists()


def test_forms_do_not_blend(tmp_path, capsys):
    model = create("paragonsr_nano", 2, num_groups=1)
    save_model(model, tmp_path / "a.pth")
    save_model(fuse_model(model), tmp_path / "b.pth")
    arguments = ["interpolate", tmp_path / "a.pth", tmp_path / "b.pth"]
    arguments += ["--alpha", "0.3", "-o", tmp_path / "mix.pth"]
    assert "paragon fuse" in error_of(capsys, arguments)
