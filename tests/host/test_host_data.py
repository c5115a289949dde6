"""What breaks in the host's reading of data and must not under our command.

The names of the tests say what the host does.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import engine_common as common
import numpy as np
import pytest
import torch
from basicsr.data import degradations

from paragon_archs.config.sections.data import DataSection
from paragon_archs.data.stream import SeededDataset, preserved_rng, sort_paths
from paragon_archs.host import patches as host


class Draws(torch.utils.data.Dataset):
    """Gives the random numbers that a sample would draw."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_draws_other_crops_and_workers_change_nothing(workers: int) -> None:
    """The host's workers get the same seed in every epoch."""
    from paragon_archs.data.stream import SampleStream, batches

    random.seed(5)
    before = random.getstate()
    stream = SampleStream(4, 4, seed=0)
    section = DataSection.read({"num_worker_per_gpu": workers})
    drawn: Any = batches(Draws(), stream, 0, 3, torch.device("cpu"), section)
    found = [torch.stack(batch).T.tolist() for batch in drawn]
    flat = [tuple(row) for batch in found for row in batch]
    assert len(set(flat)) == 12
    expected = []
    with preserved_rng():
        for iteration in range(3):
            for _, seed in stream.batch_of(iteration):
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
                expected.append(Draws()[0])
    assert flat == [tuple(row) for row in expected]
    assert random.getstate() == before


def test_the_seed_decides_the_batches(here: Path) -> None:
    """The host shuffles with the number of the epoch alone."""
    logs = []
    for seed in (1, 2, 1):
        assert common.train(here, {"manual_seed": seed, "val": ...}) == 0
        logs.append(common.losses_of(common.log_of(here)))
    assert logs[0] == logs[2] != logs[1]


@pytest.mark.parametrize("images", [3, 8])
@pytest.mark.parametrize("size", [5, 16])
def test_no_batch_size_ends_training_early(here: Path, images: int, size: int) -> None:
    """The host stops at 7 of 12 iterations, or at 0, and logs nothing."""
    common.write_images(here / "other", count=images)
    changes = {
        "datasets:train:dataroot_gt": "other/hr",
        "datasets:train:dataroot_lq": "other/lr",
        "datasets:train:batch_size_per_gpu": size,
        "train:total_iter": 3,
        "val": ...,
        "name": f"run{images}x{size}",
    }
    assert common.train(here, changes) == 0
    assert list(common.losses_of(common.log_of(here, str(changes["name"])))) == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("prefetch", [None, "cpu"])
def test_an_unreadable_image_is_named(
    here: Path, workers: int, prefetch: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """The host hangs for ever, or reports that None has no astype."""
    whole = Path("data/lr/1.png").read_bytes()
    Path("data/lr/1.png").write_bytes(whole[: len(whole) // 2])  # a whole header
    changes = {
        "datasets:train:num_worker_per_gpu": workers,
        "datasets:train:prefetch_mode": prefetch,
        "val": ...,
    }
    assert common.train(here, changes) == 1
    err = capfd.readouterr().err
    line = next(e for e in err.splitlines() if e.startswith("error: "))
    assert "data/lr/1.png" in line and "on_bad_image: skip" in line
    assert "Traceback" not in err
    assert common.train(here, {**changes, "datasets:train:on_bad_image": "skip"}) == 0
    assert "data/lr/1.png" in capfd.readouterr().err or workers


def test_an_unreadable_validation_image_is_named(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("data", "val")
    whole = Path("val/lr/1.png").read_bytes()
    Path("val/lr/1.png").write_bytes(whole[: len(whole) // 2])
    folders = {"dataroot_gt": "val/hr", "dataroot_lq": "val/lr"}
    changes = {f"datasets:val:{key}": value for key, value in folders.items()}
    assert common.train(here, changes) == 1
    err = capfd.readouterr().err
    line = next(e for e in err.splitlines() if e.startswith("error: "))
    assert "validation images" in line and "val/lr/1.png" in line
    assert "on_bad_image" not in line  # which only training knows
    folders |= {"type": "HRImageDataset", "dataroot_lq": ..., "io_backend": ...}
    whole = Path("val/hr/1.png").read_bytes()
    Path("val/hr/1.png").write_bytes(whole[: len(whole) // 2])
    changes = {f"datasets:val:{key}": value for key, value in folders.items()}
    assert common.train(here, changes) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    assert "val/hr/1.png" in line and line.count("Expected") == 1


def test_a_text_file_among_the_images_is_named() -> None:
    class Broken(Draws):
        paths = ("a", "b", "c", "notes.txt")

        def __getitem__(self, index: int) -> Any:
            if index == 3:
                return None.astype("float32")  # type: ignore[attr-defined]
            return super().__getitem__(index)

    with pytest.raises(ValueError, match=r"notes\.txt"):
        SeededDataset(Broken())[3, 7]
    assert SeededDataset(Broken(), "skip")[3, 7] == SeededDataset(Broken())[0, 7]


def test_files_come_in_one_order() -> None:
    """The host takes them as the file system lists them."""

    class Paths:
        paths: list[Any]

    one = Paths()
    one.paths = ["0003", "0001", "0005"]
    sort_paths(one)
    assert one.paths == ["0001", "0003", "0005"]
    one.paths = [{"gt_path": p, "lq_path": p} for p in ("b", "a")]
    sort_paths(one)
    assert [p["gt_path"] for p in one.paths] == ["a", "b"]


def test_a_validation_lr_of_another_scale_is_an_error(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The host crops the HR and reports a number."""
    common.write_images(here / "four", scale=4)
    assert common.train(here, {"datasets:val:dataroot_lq": "four/lr"}) == 2
    assert "2 times their LR" in capfd.readouterr().err


def test_nested_folders_are_an_error(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The host finds no images there and divides by zero."""
    Path("top").mkdir()
    Path("data").rename("top/data")
    changes = {"datasets:train:dataroot_gt": "top/data", "val": ...}
    changes |= {"datasets:train:dataroot_lq": "top/data/lr", "datasets:val": ...}
    assert common.train(here, changes) == 2
    assert "'datasets:train:dataroot_gt'" in capfd.readouterr().err


def test_jpeg_quality_may_be_a_fraction() -> None:
    """OpenCV 5 refuses one."""
    host.install()
    picture = np.full((8, 8, 3), 0.5, dtype=np.float32)
    out = degradations.random_add_jpg_compression(picture, (60, 90))
    assert np.abs(out - picture).max() < 0.05
