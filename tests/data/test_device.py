"""Pairs made on the device, against the host's own filter; caches; bad files."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import paragon_archs  # first: it fixes BasicSR's import

if not paragon_archs.HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from basicsr.utils.matlab_functions import imresize as host_imresize

from paragon_archs.config.sections.data import DataSection
from paragon_archs.data.face_dataset import FaceImageDataset, gaussian_blur
from paragon_archs.data.hr_dataset import HRImageDataset
from paragon_archs.data.image_store import ImageStore
from paragon_archs.data.pairs import augment, augmentation_codes
from paragon_archs.data.reading import read_image
from paragon_archs.utils.draws import uniform

CPU = torch.device("cpu")
NO_KEYS = DataSection.read({})


def write(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Writes RGB(A) or gray pixels with OpenCV and returns them as (C, H, W)."""
    order = pixels
    if pixels.ndim == 3:
        order = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    assert cv2.imwrite(str(file), order)
    return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]


@pytest.fixture
def folder(tmp_path, rng):
    """Four smooth RGB images of odd sizes, 8 bits."""
    made = tmp_path / "hr"
    made.mkdir()
    for n, (h, w) in enumerate([(61, 49), (50, 64), (48, 48), (70, 90)]):
        small = rng.integers(0, 256, (h // 6, w // 6, 3), dtype=np.uint8)
        smooth = cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)
        write(made / f"{n}.png", smooth)
    return made


def options(folder, **more):
    return {
        "name": "set",
        "phase": "train",
        "scale": 4,
        "dataroot_gt": str(folder),
        "gt_size": 48,
        **more,
    }


def first(batch):
    """The first sample of a batch."""
    return {name: value[0] for name, value in batch.items()}


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_lr_side_equals_the_hosts_imresize(folder, scale):
    data = HRImageDataset(options(folder, scale=scale, quantise_lq=False))
    batch = data.batch([i % 4 for i in range(9)], range(9), CPU)
    assert batch["gt"].shape == (9, 3, 48, 48)
    assert batch["lq"].shape == (9, 3, 48 // scale, 48 // scale)
    for gt, lq in zip(batch["gt"], batch["lq"], strict=True):
        wanted = host_imresize(gt, 1 / scale)
        torch.testing.assert_close(lq, wanted, rtol=0, atol=1e-5)


def test_quantised_lr_side_is_what_a_file_would_hold(folder):
    raw, rounded = (
        HRImageDataset(options(folder, quantise_lq=q)).batch([1], [5], CPU)["lq"]
        for q in (False, True)
    )
    torch.testing.assert_close(rounded, (raw * 255).round().clamp(0, 255) / 255)
    assert not torch.equal(raw, rounded)


def test_a_crop_is_a_part_of_its_image_turned_by_its_code(folder):
    data = HRImageDataset(options(folder))
    seen = set()
    for seed in range(40):
        sample = first(data.batch([3], [seed], CPU))
        numbers = uniform([seed], 5)
        image = torch.from_numpy(np.array(data.store[3])).float() / 255
        top, left = int(numbers[0, 0] * (70 - 47)), int(numbers[0, 1] * (90 - 47))
        wanted = image[:, top : top + 48, left : left + 48]
        code = int(augmentation_codes(numbers[:, 2:], True, True)[0])
        seen.add(code)
        if code & 2:
            wanted = wanted.flip(1)
        if code & 1:
            wanted = wanted.flip(2)
        if code & 4:
            wanted = wanted.transpose(1, 2)
        torch.testing.assert_close(sample["gt"], wanted, rtol=0, atol=0)
        assert sample["gt_path"].endswith("3.png")
    assert seen == set(range(8))  # all symmetries of the square come up
    plain = HRImageDataset(options(folder, use_hflip=False, use_rot=False))
    assert plain.batch([2, 2], [0, 1], CPU)["gt"].unique(dim=0).shape[0] == 1


def test_augment_treats_each_image_by_its_own_code():
    x = torch.arange(8 * 9).view(8, 1, 3, 3)
    turned = augment(x, np.arange(8))
    for code in range(8):
        alone = augment(x[code : code + 1], np.asarray([code]))
        assert torch.equal(turned[code : code + 1], alone)
    assert len({tuple((t - t.min()).flatten().tolist()) for t in turned}) == 8


def test_samples_follow_from_their_seed_alone(folder):
    data = HRImageDataset(options(folder))
    indices, seeds = [0, 1, 2, 3, 0, 1], range(100, 106)
    together = data.batch(indices, seeds, CPU)
    second = data.batch(indices[3:], seeds[3:], CPU)
    first_half = data.batch(indices[:3], seeds[:3], CPU)
    apart = torch.cat((first_half["lq"], second["lq"]))
    assert torch.equal(together["lq"], apart)
    assert together["gt_path"] == first_half["gt_path"] + second["gt_path"]
    one, other = (data.batch([3], [seed], CPU)["gt"] for seed in (1, 2))
    assert not torch.equal(one, other)


def test_the_engines_stream_takes_whole_batches(folder):
    from paragon_archs.data.stream import BatchDataset, SampleStream, batches

    data = HRImageDataset(options(folder))
    assert isinstance(data, BatchDataset)
    straight = list(batches(data, SampleStream(4, 3, seed=5), 0, 6, CPU, NO_KEYS))
    resumed = list(batches(data, SampleStream(4, 3, seed=5), 4, 6, CPU, NO_KEYS))
    for a, b in zip(straight[4:], resumed, strict=True):
        assert torch.equal(a["lq"], b["lq"])
        assert torch.equal(a["gt"], b["gt"])
    halves = [
        list(batches(data, SampleStream(4, 2, 5, world=2, rank=r), 0, 2, CPU, NO_KEYS))
        for r in (0, 1)
    ]
    whole = list(batches(data, SampleStream(4, 4, 5), 0, 2, CPU, NO_KEYS))
    for n in range(2):
        shared = torch.cat((halves[0][n]["gt"], halves[1][n]["gt"]))
        assert torch.equal(shared, whole[n]["gt"])


def test_single_samples_follow_the_seed_of_random_as_in_the_host(folder):
    data = HRImageDataset(options(folder))
    random.seed(3)
    one = data[3]
    random.seed(3)
    assert torch.equal(data[3]["gt"], one["gt"])
    assert not torch.equal(data[3]["gt"], one["gt"])
    assert one["gt"].shape == (3, 48, 48)
    assert one["lq"].shape == (3, 12, 12)
    assert one["gt_path"] == str(folder / "3.png")


def test_draws_are_uniform_and_independent():
    numbers = uniform(range(4000), 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(3), atol=0.05)
    assert np.array_equal(uniform([7, 9], 3), numbers[[7, 9]])
    assert uniform([2**64 + 7], 3).tolist() == numbers[[7]].tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_channels_and_bits(tmp_path, rng, channels, bits):
    kind = np.uint8 if bits == 8 else np.uint16
    top = np.iinfo(kind).max
    for have in (1, 3, 4):
        shape = (48, 52) if have == 1 else (48, 52, have)
        pixels = rng.integers(0, top + 1, shape, dtype=kind)
        planes = write(tmp_path / f"{have}.png", pixels)
        got = read_image(tmp_path / f"{have}.png", channels)
        assert got.dtype == kind
        assert got.shape == (channels, 48, 52)
        if channels == 1 and have > 1:
            luma = np.tensordot((0.299, 0.587, 0.114), planes[:3].astype(float), 1)
            assert np.abs(got[0] - luma).max() < 0.51
        else:
            for c in range(channels):
                alpha = planes[3] if have == 4 else np.full((48, 52), top, kind)
                plane = alpha if c == 3 else planes[0 if have == 1 else c]
                assert np.array_equal(got[c], plane)
    data = HRImageDataset(options(tmp_path, channels=channels))
    batch = data.batch(range(3), range(3), CPU)
    assert batch["gt"].shape == (3, channels, 48, 48)
    assert 0.9 < float(batch["gt"].max()) <= 1


def test_eight_and_sixteen_bits_share_a_batch(tmp_path, rng):
    pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    write(tmp_path / "a.png", pixels)
    write(tmp_path / "b.png", pixels.astype(np.uint16) * 257)
    data = HRImageDataset(options(tmp_path, use_hflip=False, use_rot=False))
    a, b = data.batch([0, 1], [0, 0], CPU)["gt"]
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_validation_takes_whole_images_cut_to_the_scale(folder):
    data = HRImageDataset(options(folder, phase="val"))
    sample = data[0]
    assert sample["gt"].shape == (3, 60, 48)
    assert sample["lq"].shape == (3, 15, 12)
    wanted = torch.from_numpy(np.array(data.store[0]))[:, :60, :48].float() / 255
    assert torch.equal(sample["gt"], wanted)
    batch = next(iter(torch.utils.data.DataLoader(data)))
    assert batch["lq_path"] == [str(folder / "0.png")]


def damaged(folder: Path) -> list[str]:
    """Adds five files that are no whole images; returns their names."""
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    whole = (folder / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("passed over: no image by its name")
    return ["empty.png", "text.png", "cut.png", "cut.jpg"]


@pytest.mark.parametrize("cache", ["ram", "mmap"])
def test_bad_files_are_named_and_skipped(folder, tmp_path, caplog, cache):
    names = damaged(folder)
    wanted = options(folder, cache=cache, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"which cannot be read. Remove or replace"):
        HRImageDataset(wanted)
    with caplog.at_level("WARNING"):
        data = HRImageDataset({**wanted, "on_bad_image": "skip"})
    assert [p.name for p in data.store.files] == ["0.png", "1.png", "2.png", "3.png"]
    for name in names:
        assert sum(name in r.message for r in caplog.records) == 1, name


def test_a_file_that_goes_bad_at_night_is_named_and_skipped(folder, caplog):
    wanted = options(folder, cache="none")
    strict = HRImageDataset(wanted)
    data = HRImageDataset({**wanted, "on_bad_image": "skip"})
    (folder / "1.png").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"1\.png"):
        strict.batch([1], [0], CPU)
    with caplog.at_level("WARNING"):
        assert first(data.batch([1], [0], CPU))["gt_path"].endswith("2.png")
    assert "1.png" in caplog.text
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="none is left"):
        data.batch([0], [0], CPU)


def test_too_small_empty_missing_and_indivisible(folder, tmp_path):
    with pytest.raises(ValueError, match=r"0\.png' with 49x61"):
        HRImageDataset(options(folder, gt_size=52))
    kept = HRImageDataset(options(folder, gt_size=52, on_bad_image="skip"))
    assert [p.name for p in kept.store.files] == ["3.png"]
    with pytest.raises(ValueError, match="multiple of scale"):
        HRImageDataset(options(folder, gt_size=50))
    with pytest.raises(ValueError, match="existing folder"):
        HRImageDataset(options(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="to hold images"):
        HRImageDataset(options(tmp_path / "empty"))


def test_memory_limit_and_headers(folder, caplog):
    files = sorted(folder.iterdir())
    sizes = [3 * 61 * 49, 3 * 50 * 64, 3 * 48 * 48, 3 * 70 * 90]
    with caplog.at_level("WARNING"):
        store = ImageStore(files, limit_gb=(sizes[0] + sizes[1] + 10) / 1024**3)
    assert (len(store), store.cached) == (4, 2)
    assert "2 of 4 images fit" in caplog.text
    whole = ImageStore(files)
    assert whole.cached == 4
    for n in range(4):
        assert np.array_equal(store[n], whole[n])


def test_mapped_cache_is_written_once_and_follows_its_files(folder, tmp_path):
    files, cache = sorted(folder.iterdir()), tmp_path / "cache"

    def stored():
        return ImageStore(files, cache="mmap", cache_dir=cache)

    first, plain = stored(), ImageStore(files)
    written = {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}
    second = pickle.loads(pickle.dumps(stored()))
    assert {p.name: p.stat().st_mtime_ns for p in cache.iterdir()} == written
    assert len(pickle.dumps(stored())) < 4000  # a path, not the pixels
    for n in range(4):
        assert isinstance(second[n], np.memmap)
        assert np.array_equal(first[n], plain[n])
        assert np.array_equal(second[n], plain[n])
    write(files[0], np.full((50, 50, 3), 7, np.uint8))
    assert stored()[0].shape == (3, 50, 50)  # a changed file is another cache
    for limit, held in ((1e-9, 0), (8.0, 4)):  # a limit that was raised counts
        limited = ImageStore(
            files, cache="mmap", cache_dir=tmp_path / "new", limit_gb=limit
        )
        assert (len(limited), limited.cached) == (4, held)


def test_faces_are_squared_blurred_and_shrunk(folder):
    data = FaceImageDataset(
        options(folder, face_size=32, use_hflip=False, quantise_lq=False)
    )
    batch = data.batch([0, 1], [0, 1], CPU)
    assert batch["gt"].shape == (2, 3, 32, 32)
    assert batch["lq"].shape == (2, 3, 8, 8)
    image = torch.from_numpy(np.array(data.store[0])).float() / 255
    square = image[:, 6:55]  # 61 x 49: the central 49 rows
    wanted = torch.as_tensor(host_imresize(square, 32 / 49)).clamp(0, 1)
    torch.testing.assert_close(batch["gt"][0], wanted, rtol=0, atol=1e-5)
    blurred = gaussian_blur(batch["gt"], 1.5)
    torch.testing.assert_close(
        batch["lq"][0], host_imresize(blurred[0], 0.25), rtol=0, atol=1e-5
    )
    reference = cv2.GaussianBlur(
        batch["gt"][0].permute(1, 2, 0).numpy(),
        (11, 11),
        1.5,
        borderType=cv2.BORDER_REFLECT_101,
    )
    got = gaussian_blur(batch["gt"][:1], 1.5)[0].permute(1, 2, 0).numpy()
    # 3 sigma of 1.5 is 4.5, so 4 or 5 taps each way; OpenCV's 11 taps differ in tails.
    np.testing.assert_allclose(got, reference, atol=3e-3)
    flips = FaceImageDataset(options(folder, face_size=32))
    several = flips.batch([2] * 16, range(16), CPU)["gt"]
    assert several.unique(dim=0).shape[0] == 2  # as it is, and mirrored
    with pytest.raises(ValueError, match="multiple of scale"):
        FaceImageDataset(options(folder, face_size=30))


def test_benchmark_measures_both_sides(tmp_path, rng, capsys):
    from paragon_archs.cli.benchmark import main

    for n in range(2):
        write(tmp_path / f"{n}.png", rng.integers(0, 256, (40, 44, 3), dtype=np.uint8))
    arguments = ["data", str(tmp_path), "--size", "16", "--workers", "0"]
    assert main([*arguments, "--rounds", "1", "--batch", "8"]) == 0
    table = capsys.readouterr().out.splitlines()
    host, ours = (float(row.split("|")[2]) for row in table[-2:])
    assert host > 0
    assert ours > 0
    assert main(["data", str(tmp_path / "none")]) == 2
    assert "existing folder" in capsys.readouterr().err
