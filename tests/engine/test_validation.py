"""Validation: names of results, metrics that are no numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import engine_common as common
import pytest
from PIL import Image

from paragon_archs.engine.naming import result_names

NAMES = {
    "stems": (["d/a.png", "d/b.png"], ["a", "b"]),
    "suffixes": (["d/odd.png", "d/odd.jpg", "d/x.png"], ["odd-png", "odd-jpg", "x"]),
    "folders": (["d/a/1.png", "d/b/1.png"], ["a-1", "b-1"]),
    "nested": (["x/a/1.png", "y/a/1.png"], ["x-a-1-png", "y-a-1-png"]),
    "taken": (["a.png", "a.jpg", "a-png.png"], ["a-png", "a-jpg", "a-png-2"]),
}


@pytest.mark.parametrize("case", list(NAMES))
def test_results_have_names_of_their_own(case: str) -> None:
    paths, expected = NAMES[case]
    found = result_names(paths)
    assert len(set(found.values())) == len(paths)
    if case != "taken":
        assert [found[p] for p in paths] == expected


@pytest.mark.parametrize("kind", ["PairedImageDataset", "HRImageDataset"])
def test_images_of_one_stem_keep_their_results_apart(kind: str, here: Path) -> None:
    for side in ("hr", "lr"):
        shutil.copytree(f"data/{side}", f"odd/{side}")
        image = Image.open(f"odd/{side}/1.png")
        image.save(f"odd/{side}/0.jpg", quality=95)
    changes = {
        "datasets:val:type": kind,
        "datasets:val:dataroot_gt": "odd/hr",
        "val:save_img": True,
        "val:samples": 9,
    }
    if kind == "PairedImageDataset":
        changes["datasets:val:dataroot_lq"] = "odd/lr"
    else:
        changes |= {"datasets:val:dataroot_lq": ..., "datasets:val:io_backend": ...}
    assert common.train(here, changes) == 0
    folder = Path("experiments/run/visualization")
    images = {p.relative_to(folder).as_posix() for p in folder.rglob("*_4.png")}
    names = ["0-png", "0-jpg", "1", "2"]
    assert images == {f"{n}/{n}_4.png" for n in names} | {
        f"samples/few_{n}_4.png" for n in names
    }


def test_a_metric_that_is_no_number_stops_nothing(here: Path) -> None:
    """SSIM of images under 11 pixels is NaN, at every validation."""
    common.write_images(here / "tiny", side=16)
    ssim = {"type": "calculate_ssim", "crop_border": 4}
    changes = {
        "datasets:val:dataroot_gt": "tiny/hr",
        "datasets:val:dataroot_lq": "tiny/lr",
        "val:val_freq": 1,
        "val:metrics": {"ssim": ssim},
        "val:early_stopping": {"metric": "ssim", "patience": 2},
        "train:total_iter": 5,
    }
    assert common.train(here, changes) == 0
    log = common.log_of(here)
    assert list(common.losses_of(log)) == [1, 2, 3, 4, 5]
    assert log.count("ssim of few is no number") == 5
    assert "stopping early" not in log
