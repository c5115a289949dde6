"""The host's data sets under our command: bits, gray, damaged files."""

from __future__ import annotations

import importlib

import cv2
import engine_common as common
import numpy as np
import pytest
import torch
from PIL import Image

from paragon_archs.config.sections.data import DataSection
from paragon_archs.utils.registry import DATASET_REGISTRY, HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from basicsr.data import paired_image_dataset
from basicsr.utils.img_util import imfrombytes as host_imfrombytes

from paragon_archs.cli import basicsr
from paragon_archs.host.repairs import reading as host_reading
from paragon_archs.host.table import PATCHES

ROW = next(p for p in PATCHES if p.replacement == "repairs.reading:imfrombytes")
MODULES = [importlib.import_module(target.partition(":")[0]) for target in ROW.targets]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in MODULES:
        monkeypatch.setattr(module, "imfrombytes", host_imfrombytes)
    return tmp_path


@pytest.fixture
def repair(monkeypatch):
    """Puts our reader in the host's place, as the table of patches does."""

    def run():
        for module in MODULES:
            monkeypatch.setattr(module, "imfrombytes", host_reading.imfrombytes)

    return run


def paired(here):
    return DATASET_REGISTRY.get("PairedImageDataset")(
        {
            "phase": "val",
            "scale": 2,
            "dataroot_gt": str(here / "hr"),
            "dataroot_lq": str(here / "lr"),
            "io_backend": {"type": "disk"},
        }
    )


def write_pair(here, high):
    for name, pixels in (("hr", high), ("lr", high[::2, ::2])):
        (here / name).mkdir(exist_ok=True)
        assert cv2.imwrite(str(here / name / "a.png"), pixels)


def test_sixteen_bits_stay_sixteen(here, rng, repair):
    high = rng.integers(0, 65536, (12, 16, 3), dtype=np.uint16)
    write_pair(here, high)
    wanted = torch.from_numpy(high[..., ::-1].astype("f4") / 65535).permute(2, 0, 1)
    assert (paired(here)[0]["gt"] - wanted).abs().max() > 1e-3  # the host's 8 bits
    repair()
    assert torch.equal(paired(here)[0]["gt"], wanted)


@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 3), (12, 16, 4)])
def test_eight_bits_are_what_the_host_reads(here, rng, shape, repair):
    write_pair(here, rng.integers(0, 256, shape, dtype=np.uint8))
    theirs = paired(here)[0]
    repair()
    ours = paired(here)[0]
    for name in ("lq", "gt"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-7)
        assert ours[name].shape[0] == 3


def test_jpegs_are_what_the_host_reads(here, rng):
    picture = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    picture.save(here / "a.jpg", quality=95)
    content = (here / "a.jpg").read_bytes()
    ours = host_reading.imfrombytes(content, float32=True)
    theirs = np.asarray(host_imfrombytes(content, float32=True))
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    assert paired_image_dataset.imfrombytes is host_imfrombytes
    with pytest.raises(ValueError, match="cut off"):
        host_reading.imfrombytes(content[: len(content) // 2], float32=True)


def test_a_damaged_validation_image_is_named(here, capsys):
    common.write_images(here / "data")
    file = here / "data/lr/1.png"
    file.write_bytes(file.read_bytes()[:60])  # its header is whole
    common.write_options(here / "o.yml", {"datasets:train:on_bad_image": "skip"})
    code = basicsr.main(["train", "-opt", "o.yml"])
    assert code in (1, 2)
    assert "data/lr/1.png" in capsys.readouterr().err


def test_workers_do_not_wait_for_opencvs_threads(here):
    """A worker forked beside OpenCV's pool hangs in the host's cvtColor."""
    from paragon_archs.data.stream import SampleStream, batches

    common.write_images(here, count=2, side=256)
    cv2.setNumThreads(2)
    big = np.zeros((1024, 1024, 3), np.float32)
    cv2.cvtColor(big, cv2.COLOR_BGR2RGB)  # the pool is there
    stream = SampleStream(2, 1, seed=0)
    section = DataSection.read({"num_worker_per_gpu": 2})
    made = list(batches(paired(here), stream, 0, 4, torch.device("cpu"), section))
    assert [tuple(b["gt"].shape) for b in made] == [(1, 3, 256, 256)] * 4
    assert cv2.getNumThreads() == 1
