"""Loading: every variant and scale, file kinds, wrappers, older names, overrides."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

import pytest
import torch
from common import SMALL_VARIANTS, image, older_names, randomise
from spandrel import MAIN_REGISTRY, ModelLoader, ModelTiling

import paragon_archs
from paragon_archs.archs import create
from paragon_archs.checkpoint import find_architecture, load_model, save_model
from paragon_archs.fuse import fuse_model
from paragon_archs.loaders import PARAGON_REGISTRY, install

BIG = ("paragonsr_s", "paragonsr_m", "paragonsr_l", "paragonsr_xl")
VARIANTS = [v for v in paragon_archs.variants() if v not in BIG]
# What a network is built with; training may move them or leaves them to the user.
FREE = ("detail_gain", "attention_mode", "use_checkpointing")


def assert_same(model, descriptor, size=(1, 3, 6, 5)):
    loaded = descriptor.model
    assert {k: v for k, v in loaded.hyperparameters.items() if k not in FREE} == {
        k: v for k, v in model.hyperparameters.items() if k not in FREE
    }
    want = model.state_dict()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, want[name], rtol=0, atol=0)
    x = image(*size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 8], ids=lambda s: f"x{s}")
@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip(variant, scale, tmp_path):
    model = create(variant, scale).eval()
    files = {
        "safetensors": tmp_path / "a.safetensors",
        "pth": tmp_path / "a.pth",
    }
    forms = {"training": model}
    if variant.startswith("paragonsr_"):
        forms["fused"] = fuse_model(model)
    for form, network in forms.items():
        for file in files.values():
            save_model(network, file)
            descriptor = load_model(file)
            assert descriptor.tags == [variant, form]
            assert descriptor.architecture.id == type(model).__name__
            assert descriptor.purpose == "SR"
            assert descriptor.scale == scale
            assert descriptor.input_channels == descriptor.output_channels == 3
            assert_same(network, descriptor)


@pytest.mark.parametrize("scale", [2, 3, 4, 8], ids=lambda s: f"x{s}")
@pytest.mark.parametrize("variant", BIG)
def test_big_variants_are_read_off_their_shapes(variant, scale):
    with torch.device("meta"):
        model: Any = create(variant, scale)
    state = dict(model.state_dict())
    architecture = find_architecture(state)
    assert architecture is not None
    reading = architecture.inspect(state)
    assert reading.arguments == model.hyperparameters
    assert architecture.variant(reading) == variant


@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_free_hyperparameters_come_back(name):
    # One step of scale 3 would not show the face network's width between steps.
    scale = 4 if name == "facesr" else 3
    model = randomise(create(name, scale, **{**SMALL_VARIANTS[name], "in_chans": 1}))
    descriptor = load_model(model.state_dict())
    assert descriptor.input_channels == 1
    assert_same(model, descriptor, (1, 1, 7, 9))


def test_detail_gain_is_told_as_trained():
    model: Any = create("paragonsr2_realtime", 2)
    model.detail_gain.data.fill_(0.25)
    descriptor = load_model(model.state_dict())
    assert descriptor.tags[0] == "paragonsr2_realtime"
    assert descriptor.model.hyperparameters["detail_gain"] == 0.25


WRAPPERS = {
    "bare": lambda s: s,
    "params": lambda s: {"params": s},
    "params_ema": lambda s: {"params": {"x": torch.zeros(1)}, "params_ema": s},
    "params-ema": lambda s: {"params-ema": s},
    "state_dict": lambda s: {
        "state_dict": s,
        "epoch": 3,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
    },
    "module": lambda s: {"params": {f"module.{k}": v for k, v in s.items()}},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "both": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("extension", [".pth", ".pt", ".ckpt", ".pth.tar"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_prefixes(wrapper, extension, tmp_path):
    model = randomise(create("resshuffle", 2, num_features=4, num_residuals=1))
    file = tmp_path / f"best{extension}"
    torch.save(WRAPPERS[wrapper](model.state_dict()), file)
    assert_same(model, load_model(file))


@pytest.mark.parametrize("block", ["realtime", "photo", "pro", "stream"])
def test_older_names_of_paragonsr2(block):
    model = randomise(create(f"paragonsr2_{block}", 2, num_groups=2, num_blocks=1))
    for prefix in ("", "module."):
        state = {f"{prefix}{k}": v for k, v in older_names(model.state_dict()).items()}
        assert_same(model, load_model({"params": state}))


def test_released_weights_take_the_published_defaults():
    for variant, values in paragon_archs.variants().items():
        if not variant.startswith("paragonsr2_"):
            continue
        model = create(variant, 2, upsampler_alpha=0.9, window_size=8)
        state = model.state_dict()
        ours = load_model(state).model.hyperparameters
        assert (ours["upsampler_alpha"], ours["window_size"]) == (0.9, 8)
        del state["settings"]
        theirs = load_model(state).model.hyperparameters
        assert theirs["upsampler_alpha"] == values["upsampler_alpha"]
        assert theirs["window_size"] == 16
        given = load_model(state, overrides={"upsampler_alpha": 0.9, "window_size": 8})
        assert_same(model, given)


def test_settings_that_a_converter_ruined_count_as_missing():
    state = create("paragonsr2_photo", 2, upsampler_alpha=0.2).state_dict()
    state["settings"] = state["settings"].half()
    assert state["settings"].isinf().any()
    hyperparameters = load_model(state).model.hyperparameters
    assert hyperparameters["upsampler_alpha"] == 0.4


def test_an_override_of_the_gain_wins_over_the_weights():
    state = create("paragonsr2_realtime", 2).state_dict()
    descriptor = load_model(state, overrides={"detail_gain": 0.5})
    assert descriptor.model.detail_gain.item() == 0.5


def test_unknown_overrides_are_named():
    state = create("paragonsr2_realtime", 2).state_dict()
    with pytest.raises(TypeError, match=r"'windowsize'. Did you mean window_size"):
        load_model(state, overrides={"windowsize": 8})


@pytest.mark.parametrize(
    "off", [{"export_safe": True}, {"attention_mode": None}], ids=str
)
def test_trained_attention_is_never_dropped(off):
    state = create("paragonsr2_photo", 2).state_dict()
    with pytest.raises(ValueError, match="attention would be dropped"):
        load_model(state, overrides=off)
    bare = create("paragonsr2_photo", 2, **off)
    for options in ({}, off):
        descriptor = load_model(bare.state_dict(), overrides=options)
        assert descriptor.tags[0] == "paragonsr2_photo"


def test_tiling_is_told_truthfully():
    """Tiles with a margin give the whole picture exactly where that is claimed."""
    for name in SMALL_VARIANTS:
        model = randomise(create(name, 2, **SMALL_VARIANTS[name])).double()
        descriptor = load_model(model.state_dict())
        model = descriptor.model.double()
        x = image(1, 3, 72, 20, dtype=torch.float64)
        with torch.no_grad():
            whole, tile = model(x), model(x[:, :, :50])
        same = torch.allclose(whole[:, :, :40], tile[:, :, :40], rtol=0, atol=1e-9)
        assert same == (descriptor.tiling is ModelTiling.SUPPORTED), name


def test_no_size_is_refused():
    for name in SMALL_VARIANTS:
        descriptor = load_model(create(name, 2, **SMALL_VARIANTS[name]).state_dict())
        assert descriptor.size_requirements.none
        assert descriptor(image(1, 3, 1, 3)).shape == (1, 3, 2, 6)


def test_install_adds_each_architecture_once(tmp_path):
    install()
    install()
    ids = [s.architecture.id for s in MAIN_REGISTRY]
    for support in PARAGON_REGISTRY:
        assert ids.count(support.architecture.id) == 1
    with pytest.raises(ValueError, match="Duplicate"):
        install(ignore_duplicates=False)
    model = create("facesr", 4).eval()
    save_model(model, tmp_path / "face.safetensors")
    descriptor = ModelLoader().load_from_file(tmp_path / "face.safetensors")
    assert descriptor.architecture.id == "FaceSR"
    assert descriptor.purpose == "SR"


def test_transfer_between_file_kinds_keeps_settings(tmp_path):
    model = create("paragonsr2_photo", 2, upsampler_alpha=0.15, window_size=8)
    for name in ("a.safetensors", "a.pth"):
        save_model(model, tmp_path / name)
        hyperparameters = load_model(tmp_path / name).model.hyperparameters
        assert math.isclose(hyperparameters["upsampler_alpha"], 0.15)
        assert hyperparameters["window_size"] == 8


# What can be wrong with a file: one sentence, exit code 2, nothing executed.


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def bad_files(folder):
    folder.mkdir()
    state = create("paragonsr2_photo", 2).state_dict()
    whole = folder / "whole.safetensors"
    save_model(create("paragonsr2_photo", 2), whole)
    (folder / "cut.safetensors").write_bytes(whole.read_bytes()[:-1000])
    torch.save({"params": state}, folder / "whole.pth")
    (folder / "cut.pth").write_bytes((folder / "whole.pth").read_bytes()[:-1000])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.safetensors").write_text("hello")
    torch.save({"params": state, "bomb": Bomb(folder / "ran")}, folder / "code.pth")
    torch.save(Bomb(folder / "ran"), folder / "bomb.pth.tar")
    torch.save({"a": torch.zeros(3)}, folder / "other.pth")
    torch.save({0: torch.zeros(3)}, folder / "numbers.pth")
    torch.save(
        {"params": state, "opt": argparse.Namespace(a=1)}, folder / "objects.pth"
    )
    for name, value in {
        "gamma": ("body.1.blocks.2.scale.gamma", torch.zeros(1, 5, 1, 1)),
        "in": ("conv_in.weight", torch.zeros(64)),
        "up": ("up.0.weight", torch.zeros(100, 64, 3, 3)),
        "settings": ("settings", torch.zeros(3, dtype=torch.int64)),
        "scalar": ("detail_gain", torch.zeros(2)),
    }.items():
        torch.save({**state, value[0]: value[1]}, folder / f"shape_{name}.pth")
    short = {k: v for k, v in state.items() if k != "conv_out.bias"}
    torch.save(short, folder / "short.pth")
    torch.save({**state, "conv_new.bias": torch.zeros(3)}, folder / "long.pth")
    for good in ("whole.safetensors", "whole.pth"):
        (folder / good).unlink()


def test_bad_files_are_one_sentence_and_run_nothing(tmp_path, capsys):
    from paragon_archs.cli.__main__ import main

    folder = tmp_path / "bad"
    bad_files(folder)
    files = sorted(p for p in folder.iterdir())
    assert len(files) == 16
    for file in [*files, folder, tmp_path / "absent.pth"]:
        code = main(["info", str(file)])
        out, err = capsys.readouterr()
        assert code == 2, file.name
        assert out == ""
        assert err.startswith("error: Expected "), err
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert file.name in err, err
    assert not (folder / "ran").exists()


def test_info_says_what_is_assumed(tmp_path, capsys):
    from paragon_archs.cli.__main__ import main

    model = create("paragonsr2_photo", 2)
    state = model.state_dict()
    del state["settings"]
    torch.save(state, tmp_path / "released.pth")
    save_model(model, tmp_path / "ours.safetensors")
    assert main(["info", str(tmp_path / "released.pth")]) == 0
    released = capsys.readouterr().out
    assert re.search(r"upsampler_alpha +0\.4 +\(assumed: published default", released)
    assert re.search(r"window_size +16 +\(assumed: published default", released)
    assert re.search(r"variant +paragonsr2_photo\n", released)
    assert re.search(r"parameters +745,292\n", released)
    assert main(["info", str(tmp_path / "ours.safetensors")]) == 0
    ours = capsys.readouterr().out
    assert re.search(r"upsampler_alpha +0\.4\n", ours)
    assert re.search(r"window_size +16\n", ours)
