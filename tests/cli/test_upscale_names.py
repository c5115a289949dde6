"""`paragon upscale` without -o, and `paragon models`."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from paragon_archs.checkpoint import load_model
from paragon_archs.cli.__main__ import main
from paragon_archs.inference import planning
from paragon_archs.weights import DEFAULTS, JPEG_DEFAULTS, available, card


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with two images, one folder further down, that we stand in."""
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "photos/b.png", "photos/deep/c.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).save(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["a.jpg"], ["a_x4.png"]),
        (["a.jpg", "--format", "keep"], ["a_x4.jpg"]),
        (["a.jpg", "--suffix", "_big"], ["a_big.png"]),
        (["photos/b.png", "a.jpg"], ["photos/b_x4.png", "a_x4.png"]),
        (["photos"], ["photos_x4/b.png", "photos_x4/deep/c.png"]),
        (["photos/"], ["photos_x4/b.png"]),
        (["photos/*.png"], ["upscaled_x4/b.png"]),
        (["a.jpg", "--model", "paragonsr2_realtime_x2"], ["a_x2.png"]),
    ],
    ids=lambda v: " ".join(v).replace("/", "_"),
)
def test_results_lie_beside_their_inputs(arguments, written, photos, capsys):
    assert main(["upscale", *arguments, "--device", "cpu"]) == 0
    assert all((photos / name).is_file() for name in written)
    capsys.readouterr()
    # Nothing is replaced silently.
    before = (photos / written[0]).read_bytes()
    assert main(["upscale", *arguments, "--device", "cpu"]) == 2
    assert "exists" in capsys.readouterr().err
    assert (photos / written[0]).read_bytes() == before


@pytest.mark.parametrize(
    ("place", "name"),
    [("photos", "."), ("photos/deep", ".."), ("photos", "../photos"), ("photos", "./")],
)
def test_the_folder_that_we_stand_in(place, name, photos, monkeypatch):
    monkeypatch.chdir(photos / place)
    assert main(["upscale", name, "--device", "cpu"]) == 0
    assert (photos / "photos_x4" / "deep" / "c.png").is_file()


def test_inputs_without_a_name():
    with pytest.raises(FileNotFoundError, match="there is no ''"):
        planning.plan([""])
    with pytest.raises(ValueError, match="Expected --output for '/'"):
        planning.beside("/", 4)


def test_two_inputs_of_one_stem_are_refused(photos, capsys):
    Image.new("RGB", (5, 6)).save("a.png")
    assert main(["upscale", "a.jpg", "a.png", "--device", "cpu"]) == 2
    assert "a_x4.png" in capsys.readouterr().err
    assert not (photos / "a_x4.png").exists()


def test_quiet_prints_nothing(photos, capsys):
    assert main(["upscale", "a.jpg", "--quiet", "--device", "cpu"]) == 0
    assert capsys.readouterr() == ("", "")


def test_progress_for_programs_is_a_json_object_a_line(photos, capsys):
    arguments = ["upscale", "photos", "--progress", "json", "--device", "cpu"]
    assert main(arguments) == 0
    lines = [json.loads(x) for x in capsys.readouterr().err.splitlines()]
    assert lines[-1]["ended"] is True
    assert (lines[-1]["done"], lines[-1]["total"]) == (2, 2)
    assert lines[-1]["fraction"] == 1
    assert all(a["fraction"] <= b["fraction"] for a, b in itertools.pairwise(lines))


def test_models_lists_what_ships(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == list(available())
    for row, line in zip(rows, printed.splitlines()[1:], strict=False):
        name, mark = line.split()[:2]
        assert name == row["name"]
        assert (mark == "*") == row["default"] == (name in DEFAULTS.values())
        for_jpeg = name in JPEG_DEFAULTS.values()
        assert (mark == "**") == row["default_for_jpeg"] == for_jpeg
        assert f"{row['psnr_y']['Set5']:.2f}" in line and row["made_for"] in line
    assert main(["models", "--scale", "2", "--json"]) == 0
    assert {r["scale"] for r in json.loads(capsys.readouterr().out)} == {2}
    assert main(["models", "nonsense"]) == 2
    assert "'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize("name", available())
def test_a_card_says_what_its_file_holds(name):
    found = card(name)
    descriptor = load_model(available()[name])
    assert found["name"] == name
    assert found["architecture"] == descriptor.architecture.name
    assert found["scale"] == descriptor.scale
    count = sum(p.numel() for p in descriptor.model.parameters())
    assert found["parameters"] == count
    # The figures of the front matter are those of the card's own table.
    text = available()[name].with_suffix(".md").read_text()
    for one, figure in found["psnr_y"].items():
        assert f"| {one} | {figure:.2f} / " in text


def test_models_are_copied_once(tmp_path, capsys):
    arguments = ["models", "paragonsr_nano_x4", "--copy", str(tmp_path / "new")]
    assert main(arguments) == 0
    file = tmp_path / "new" / "paragonsr_nano_x4.safetensors"
    assert file.read_bytes() == available()["paragonsr_nano_x4"].read_bytes()
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    "command",
    [
        ["info", "paragonsr2_stream_x2"],
        ["convert", "paragonsr_nano_x4", "-o", "half.safetensors", "--dtype", "fp16"],
        ["benchmark", "video", "scene.png", "--model", "paragonsr2_realtime_x2"],
        ["interpolate", "paragonsr_nano_x4", "paragonsr_nano_x4", "--alpha", "0.5"],
    ],
    ids=lambda v: v[0],
)
def test_names_of_shipped_models_are_taken(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (24, 24), "gray").save("scene.png")
    more = ["-o", "mix.safetensors"] if command[0] == "interpolate" else []
    more = ["--frames", "2", "--device", "cpu"] if command[0] == "benchmark" else more
    assert main([*command, *more]) == 0


@pytest.mark.parametrize("names", [[], ["paragonsr2_stream_x4"]], ids=len)
def test_a_scale_that_does_not_ship_is_one_sentence(names, capsys):
    assert main(["models", *names, "--scale", "3"]) == 2
    assert "got 3" in capsys.readouterr().err


def test_a_wrong_use_is_the_first_thing_said(photos, capsys):
    assert main(["upscale", "a.jpg", "-o", "a.xyz"]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1


def test_a_failed_file_is_named_once(photos, capsys):
    (photos / "bad.png").write_bytes(b"none")
    assert main(["upscale", "bad.png", "a.jpg", "--device", "cpu", "-q"]) == 1
    assert capsys.readouterr().err.splitlines()[0].count("bad.png") == 1
