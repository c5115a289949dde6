"""The option files of the shipped models train, stage by stage."""

from __future__ import annotations

from pathlib import Path

import engine_common as common
import pytest
import yaml

from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.checkpoint import load_model, read_metadata
from paragon_archs.cli import basicsr
from paragon_archs.weights import available

OPTIONS = Path(__file__).resolve().parents[2] / "options" / "weights"
NAMES = sorted(file.stem for file in OPTIONS.glob("*.yml"))
LOW = 12  # pixels of a low-resolution crop


def test_every_shipped_model_has_its_file():
    assert set(available()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_all_of_its_stages(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.write_images(tmp_path / "data", count=2, side=160)
    options = yaml.safe_load((OPTIONS / f"{name}.yml").read_text())
    size = LOW * options["scale"]
    entries = [f"datasets:{s}:dataroot_gt=data/hr" for s in options["datasets"]]
    entries += [f"datasets:train:gt_size={size}", "datasets:train:batch_size_per_gpu=2"]
    for index, stage in enumerate(options["stages"]):
        entries.append(f"stages:{index}:iterations=1")
        smaller = {"batch_size_per_gpu": 1, "gt_size": size + options["scale"]}
        for key in smaller.keys() & (stage.get("data") or {}).keys():
            entries.append(f"stages:{index}:data:{key}={smaller[key]}")
    call = ["train", "-opt", str(OPTIONS / f"{name}.yml"), "--force_yml", *entries]
    assert basicsr.main(call) == 0
    made = tmp_path / "experiments" / name / "models" / "net_g_latest.safetensors"
    descriptor = load_model(made)
    assert descriptor.scale == options["scale"]
    assert options["network_g"]["type"] in descriptor.tags
    assert read_metadata(made)["iteration"] == str(len(options["stages"]))
    for stage in options["stages"][:-1]:
        assert made.with_name(f"net_g_stage_{stage['name']}.safetensors").is_file()
