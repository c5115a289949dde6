"""`paragon benchmark quality`: protocols, the command."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import browser, faults
from PIL import Image
from quality_common import picture, tensor

from benchmarks.peers import PUBLISHED, build
from paragon_archs import create
from paragon_archs.checkpoint import save_model
from paragon_archs.cli import benchmark_quality
from paragon_archs.cli.benchmark import main as benchmark
from paragon_archs.evaluation import iqa
from paragon_archs.evaluation.crops import crop_sheet, hardest_window
from paragon_archs.evaluation.measures import luma, psnr, quantize, shave
from paragon_archs.evaluation.protocols import (
    PROTOCOLS,
    TestSet,
    bicubic_of_luma,
    downscale_like_matlab,
    downscale_like_pillow,
    is_stored_gray,
    read_image,
)
from paragon_archs.evaluation.tables import averages, markdown
from paragon_archs.media.paths import find_images
from paragon_archs.utils.resize import imresize


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A test set of three images with odd sizes."""
    place = tmp_path / "Tiny" / "HR"
    place.mkdir(parents=True)
    for i, size in enumerate([(66, 81), (72, 70), (90, 67)]):
        Image.fromarray(picture(*size, seed=i)).save(place / f"{i}.png")
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_model(create("paragonsr_nano", 2), path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_protocols_differ_as_they_say():
    high = tensor(picture(64, 96))
    low = downscale_like_matlab(high, 4)
    want = imresize(high[None].double() / 255, 0.25)[0].mul(255).round().clamp(0, 255)
    assert low.dtype == torch.uint8 and (low - want).abs().max() <= 1
    pil = Image.fromarray(high.permute(1, 2, 0).numpy()).resize(
        (24, 16), Image.Resampling.BICUBIC
    )
    got = downscale_like_pillow(high, 4).permute(1, 2, 0).numpy()
    assert np.array_equal(got, np.array(pil))
    assert set(PROTOCOLS["standard"].measures) >= {"psnr_y", "ssim_y", "psnr_rgb"}
    assert set(PROTOCOLS["resshuffle"].measures) == {"psnr_rgb", "ssim_gray"}
    assert not PROTOCOLS["resshuffle"].border
    about = {name: p.about for name, p in PROTOCOLS.items()}
    assert about == benchmark_quality.PROTOCOLS  # what `--help` prints without torch


def test_a_test_set_lies_in_one_folder(folder, tmp_path):
    # HR, LR and results below one folder once counted as 15 images of a set of five.
    for name in ("HR", "LR"):
        shutil.copytree(folder, tmp_path / "set" / name)
    with pytest.raises(ValueError, match="in one folder"):
        TestSet.open(str(tmp_path / "set"))
    assert len(TestSet.open(str(tmp_path / "set" / "HR")).images) == 3
    with pytest.raises(FileNotFoundError, match="Check the path"):
        TestSet.open(str(folder / "none"))


def test_set_names_and_partners(folder, tmp_path):
    assert TestSet.open(str(folder)).name == "Tiny"
    assert TestSet.open(f"Mine={folder}").name == "Mine"
    low = tmp_path / "LR"
    low.mkdir()
    for path in find_images(folder)[:2]:
        image = downscale_like_matlab(read_image(path)[:, :64, :66], 2)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(low / path.name)
    with pytest.raises(ValueError, match="same name"):
        TestSet.open(str(folder), str(low))
    Image.new("RGB", (9, 9)).save(low / "2.png")
    given = TestSet.open(str(folder), str(low))
    with pytest.raises(ValueError, match="1/2 of its HR image"):
        given.pair(2, 2, PROTOCOLS["standard"])


def test_low_images_are_saved_as_jpeg(folder, tmp_path, capsys):
    clean = TestSet.open(f"Tiny={folder}")
    protocol = PROTOCOLS["standard"]
    low, high = clean.pair(0, 2, protocol)
    saved, same = clean.as_jpeg(60).pair(0, 2, protocol)
    assert torch.equal(same, high) and not torch.equal(saved, low)
    Image.fromarray(low.permute(1, 2, 0).numpy()).save(
        tmp_path / "low.jpg", quality=60, subsampling="4:2:0"
    )
    assert torch.equal(saved, read_image(tmp_path / "low.jpg"))
    call = ["quality", "bicubic", "--scale", "2", "--hr", f"Tiny={folder}"]
    call += ["--crops", "0", "--jpeg", "90", "30", "-o", str(tmp_path / "out")]
    assert benchmark(call) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "averages.csv").open()))
    values = {r["set"]: float(r["psnr_y"]) for r in rows if r["model"] == "bicubic"}
    assert list(values) == ["Tiny", "Tiny, JPEG 90", "Tiny, JPEG 30"]
    assert values["Tiny"] > values["Tiny, JPEG 90"] > values["Tiny, JPEG 30"]
    assert not any("JPEG" in r["set"] for r in rows if "Y only" in r["model"])
    assert benchmark([*call[:-1], str(tmp_path / "o"), "--jpeg", "101"]) == 2
    assert "qualities from 1 to 100, but got 101" in capsys.readouterr().err


def test_averages_need_every_image():
    rows = [
        {"set": "a", "scale": 2, "model": "m", "image": "1", "psnr_y": 30.0, "x": 1.0},
        {"set": "a", "scale": 2, "model": "m", "image": "2", "psnr_y": 34.0},
    ]
    (mean,) = averages(rows)
    assert mean["psnr_y"] == 32
    assert mean["images"] == 2
    assert "x" not in mean
    assert "| a | x2 | m | 1,234 | 2 | 32.00 |" in markdown([mean], {"m": 1234})


def test_stored_gray_is_its_own_luma(tmp_path):
    array = picture(48, 48)[..., 0]
    Image.fromarray(array).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([array] * 3, -1)).save(tmp_path / "color.png")
    scores = {}
    for name, stored in (("gray", True), ("color", False)):
        path = tmp_path / f"{name}.png"
        assert is_stored_gray(path) == stored
        scores[name] = bicubic_of_luma(read_image(path), 2, stored)["psnr_y"]
    # Y of BT.601 spans 219 of 255 levels: its error is smaller by that ratio.
    ratio = 20 * math.log10(255 / 219)
    assert scores["color"] - scores["gray"] == pytest.approx(ratio, abs=0.1)


def test_crops_show_what_is_hard():
    reference = torch.full((3, 64, 96), 100.0)
    image = reference.clone()
    image[:, 40:48, 70:78] += 50
    top, left = hardest_window(image, reference, 16)
    assert top <= 40 <= top + 8 and left <= 70 <= left + 8
    crop = torch.full((3, 16, 16), 200.0)
    sheet = crop_sheet([[("a\nb", crop), ("c", crop)]] * 2, 16, 3)
    assert sheet.width > 2 * 48 and sheet.height > 2 * 48
    assert sheet.getpixel((10, 10)) == (200, 200, 200)


def test_command_measures_resumes_and_refuses(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["quality", "bicubic", str(model), "--hr", str(folder), "-o", str(out)]
    assert benchmark(call) == 0
    text = capsys.readouterr().out
    assert "| Tiny | x2 | bicubic | - | 3 |" in text
    rows = rows_of(out / "images.csv")
    assert len(rows) == 3 * 3  # bicubic, bicubic on Y, the model
    image = read_image(folder / "0.png")[:, :66, :80]
    low = downscale_like_matlab(image, 2)
    up = quantize(imresize(low[None].float() / 255, 2)[0])
    want = psnr(*(shave(luma(i.double()), 2) for i in (up, image)))
    (row,) = [r for r in rows if (r["model"], r["image"]) == ("bicubic", "0.png")]
    assert float(row["psnr_y"]) == pytest.approx(want, abs=1e-5)
    means = rows_of(out / "averages.csv")
    values = [float(r["psnr_y"]) for r in rows if r["model"] == "mine"]
    (mean,) = [float(r["psnr_y"]) for r in means if r["model"] == "mine"]
    assert mean == pytest.approx(sum(values) / 3, abs=1e-5)
    assert "standard" in (out / "settings.json").read_text()
    with Image.open(out / "crops_x2.png") as sheet:
        assert sheet.width > 3 * 64 * 3

    assert benchmark(call) == 2
    assert "--resume" in capsys.readouterr().err

    # A row that is there is kept, not measured anew; one that is gone comes back.
    lines = (out / "images.csv").read_text().splitlines()
    lines[1] = lines[1].replace(rows[0]["psnr_y"], "11.000000")
    (out / "images.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert benchmark([*call, "--resume", "--crops", "0"]) == 0
    again = rows_of(out / "images.csv")
    assert float(again[0]["psnr_y"]) == 11
    assert again[1:] == rows[1:]
    capsys.readouterr()

    # Another file of the same name must not share a table with the first.
    save_model(create("paragonsr_nano", 2), model)
    assert benchmark([*call, "--resume"]) == 2
    assert "Choose another --output" in capsys.readouterr().err


def test_the_page_beside_the_tables_shows_what_they_say(
    folder, model, tmp_path, tmp_path_factory
):
    out = tmp_path / "out"
    call = ["quality", "bicubic", str(model), "--hr", str(folder), "-o", str(out)]
    assert benchmark([*call, "--crops", "2"]) == 0
    published = {
        (row["image"][:-4], row["model"]): float(row["psnr_y"])
        for row in rows_of(out / "images.csv")
    }
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(out / "compare_x2.html")
        # With a slider between any two of bicubic, the model and the original.
        assert tab.drag_handle() == "25"
        buttons = "[...document.querySelectorAll('#list button')]"
        names = tab.run(f"{buttons}.map((b) => b.innerText.split('\\n')[0])")
        assert sorted(names) == ["Tiny 0", "Tiny 1"]
        for index, name in enumerate(names):
            tab.run(f"{buttons}[{index}].click()")
            cells = "[...document.querySelectorAll('tbody tr')].map((r) => r.innerText)"
            rows = [row.split("\t") for row in tab.run(cells)]
            assert [row[0] for row in rows] == ["bicubic", "mine", "original"]
            for label, _, value, *_ in rows[:2]:
                want = published[name.removeprefix("Tiny "), label]
                assert float(value) == pytest.approx(want, abs=0.006)
        for theme in ("light", "dark"):
            tab.theme(theme)
            assert faults(tab.run) == []
        assert tab.problems == []


def test_speed_is_a_column_and_a_chart(folder, model, tmp_path):
    out = tmp_path / "out"
    call = ["quality", "bicubic", str(model), "--hr", str(folder), "-o", str(out)]
    assert benchmark([*call, "--crops", "0", "--speed"]) == 0
    fast = {r["model"]: r["mp_per_s"] for r in rows_of(out / "averages.csv")}
    assert float(fast["bicubic"]) > 0 and float(fast["mine"]) > 0
    svg = (out / "chart_Tiny_x2.svg").read_text()
    assert ">bicubic<" in svg and ">mine<" in svg


def test_published_figures_stand_beside_measured_ones(
    folder, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(benchmark_quality, "SPEED_SIDE", 16)
    out = tmp_path / "out"
    call = ["quality", str(model), "--hr", f"Set5={folder}", "-o", str(out)]
    call += ["--crops", "0", "--published"]
    assert benchmark([*call, "--speed", "--threads", "1"]) == 0
    table = (out / "table_x2.md").read_text()
    cells = {
        row.split(" | ")[0][2:]: [c.strip(" |") for c in row.split(" | ")[1:]]
        for row in table.splitlines()
        if row.startswith("| ")
    }
    assert cells["model"] == (
        ["parameters", "Set5", "Set14", "B100", "Urban100", "MP/s", "from"]
    )
    ours = rows_of(out / "averages.csv")[0]
    assert cells["mine"][1] == f"{float(ours['psnr_y']):.2f}"
    assert cells["mine"][2:5] == ["-"] * 3 and cells["mine"][-1] == "here"
    assert cells["FSRCNN"] == ["12 K", "37.00", "32.63", "31.53", "29.88", "-", "S"]
    assert float(cells["SAFMN"][5]) > 0 and float(cells["SeemoRe-T"][5]) > 0
    assert "30.71" not in table  # of scale 4
    svg = (out / "chart_Set5_x2.svg").read_text()
    assert all(f">{name}<" in svg for name in ("mine", "SAFMN", "SwinIR-light"))
    assert ">FSRCNN<" not in svg  # nobody timed it

    capsys.readouterr()
    assert benchmark([*call, "--protocol", "resshuffle"]) == 2
    assert "standard protocol" in capsys.readouterr().err


@pytest.mark.parametrize("peer", [p for p in PUBLISHED if p.network], ids=str)
def test_a_timed_peer_is_the_network_that_was_published(peer):
    count = sum(p.numel() for p in build(peer.network, peer.scale).parameters())
    # SwinIR-light has a count of 878 K in its paper and 910 K in others' tables.
    assert count / 1000 == pytest.approx(float(peer.parameters[:-2]), rel=0.04)


def test_command_goes_on_after_a_broken_image(folder, tmp_path, capsys):
    (folder / "1.png").write_bytes(b"no image")
    out = tmp_path / "out"
    call = ["quality", "bicubic", "--scale", "4", "--hr", str(folder), "-o", str(out)]
    assert benchmark([*call, "--protocol", "resshuffle"]) == 1
    assert "1.png" in capsys.readouterr().err
    assert len(rows_of(out / "images.csv")) == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["bicubic"], "--scale"),
        (["no_such_model"], "shipped model"),
        (["MODEL", "--scale", "4"], "a model has its own"),
        (["MODEL", "MODEL"], "twice"),
        (["MODEL", "--lr", "a", "b"], "as many folders"),
    ],
)
def test_wrong_use(folder, model, tmp_path, capsys, extra, message):
    extra = [str(model) if e == "MODEL" else e for e in extra]
    call = ["quality", *extra, "--hr", str(folder), "-o", str(tmp_path / "out")]
    assert benchmark(call) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pyiqa_measures(folder, tmp_path):
    pytest.importorskip("pyiqa", reason="pyiqa is not installed")
    out = tmp_path / "out"
    call = ["quality", "bicubic", "--scale", "2", "--hr", str(folder), "-o", str(out)]
    assert benchmark([*call, "--crops", "0", "--pyiqa", "psnr", "ssim_c"]) == 0
    for row in rows_of(out / "images.csv"):
        if row["model"] != "bicubic":
            continue
        # pyiqa takes whole images; only the border differs from our column.
        assert float(row["pyiqa_psnr"]) == pytest.approx(float(row["psnr_rgb"]), abs=1)
        assert 0 < float(row["pyiqa_ssim_c"]) < 1


def test_pyiqa_without_weights_names_the_metric(folder, tmp_path, capsys, monkeypatch):
    pyiqa = pytest.importorskip("pyiqa", reason="pyiqa is not installed")
    real = pyiqa.create_metric

    def offline(name: str, **arguments):
        if name == "lpips":
            raise OSError("<urlopen error>\n  Name or service not known")
        return real(name, **arguments)

    # The one thing that a test cannot have: a machine without network.
    monkeypatch.setattr(pyiqa, "create_metric", offline)
    out = tmp_path / "out"
    call = ["quality", "bicubic", "--scale", "2", "--hr", str(folder), "-o", str(out)]
    assert benchmark([*call, "--crops", "0", "--pyiqa", "lpips", "psnr"]) == 0
    lines = [x for x in capsys.readouterr().err.splitlines() if "lpips" in x]
    assert len(lines) == 1 and "could not be fetched" in lines[0]
    columns = rows_of(out / "images.csv")[0]
    assert "pyiqa_psnr" in columns and "pyiqa_lpips" not in columns
    with pytest.raises(ValueError, match="metrics out of"):
        iqa.load_metrics(["niqe"])
