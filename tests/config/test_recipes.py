"""Every option file passes the checker and trains; sizes come from --force_yml."""

from __future__ import annotations

from pathlib import Path

import engine_common as common
import pytest
import yaml

from paragon_archs import variants
from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.checkpoint import read_metadata
from paragon_archs.cli import basicsr

OPTIONS = Path(__file__).resolve().parents[2] / "options"
LEFT_OUT = {"quickstart": "three minutes; scripts/quickstart.sh is its test"}
RECIPES = sorted(p.stem for p in OPTIONS.glob("*.yml") if p.stem not in LEFT_OUT)

# Type of network_g, in lower case -> what makes it small.
SMALL = {
    "paragonsr_": ["num_feat=8", "num_groups=1", "num_blocks=1"],
    "paragonsr2_": ["num_feat=16", "num_groups=1", "num_blocks=2", "window_size=4"],
    "fusionsr": ["embed_dim=12", "depth=1", "num_heads=2", "window_size=4"],
    "resshuffle": ["num_features=8", "num_residuals=1"],
    "facesr": ["num_feat=8", "mid_feat=4", "refine_feat=4", "num_refine=1"],
}
ITERATIONS = 20


def small(recipe, vgg19_file):
    """`--force_yml` entries that fit a recipe onto a few small images."""
    options = yaml.safe_load((OPTIONS / f"{recipe}.yml").read_text())
    scale = options["scale"]
    size = 8 * scale
    kind = options["network_g"]["type"].lower()
    entries = [
        f"network_g:{e}" for n, es in SMALL.items() if kind.startswith(n) for e in es
    ]
    for name, section in options["datasets"].items():
        entries.append(f"datasets:{name}:dataroot_gt=data/hr")
        if "dataroot_lq" in section:
            entries.append(f"datasets:{name}:dataroot_lq=data/lr")
        if "face_size" in section:
            entries.append(f"datasets:{name}:face_size={size}")
        elif "gt_size" in section:
            entries.append(f"datasets:{name}:gt_size={max(size, 32)}")
        if "crop_size" in section:
            entries.append(f"datasets:{name}:crop_size=80")
    entries += [
        "datasets:train:batch_size_per_gpu=1",
        "num_gpu=0",
        "name=run",
        "train:ema_decay=0.9",
        "train:warmup_iter=5",
        f"val:val_freq={ITERATIONS}",
        "logger:print_freq=1",
        f"logger:save_checkpoint_freq={ITERATIONS}",
        "logger:use_tb_logger=false",
    ]
    for name in ("train", "val"):
        if "num_worker_per_gpu" in options["datasets"].get(name, {}):
            entries.append(f"datasets:{name}:num_worker_per_gpu=0")
    for n, loss in enumerate(options["train"]["losses"]):
        if loss["type"] == "VGGPerceptualLoss":
            entries += [f"train:losses:{n}:weights={vgg19_file}"]
    if "network_d" in options:
        entries += ["network_d:num_feat=4", "network_d2:num_feat=4"]
        entries += ["network_d2:num_scales=1", "degradation:queue_size=4"]
    if "path" in options:
        entries.append("path:pretrain_network_g=~")
    if "stages" in options:
        for n, stage in enumerate(options["stages"]):
            assert "epochs" in stage
            entries += [
                f"stages:{n}:epochs=~",
                f"stages:{n}:iterations={ITERATIONS // 4}",
            ]
    else:
        entries.append(f"train:total_iter={ITERATIONS}")
    return entries


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains(recipe, tmp_path, monkeypatch, vgg19_file):
    monkeypatch.chdir(tmp_path)
    options = yaml.safe_load((OPTIONS / f"{recipe}.yml").read_text())
    common.write_images(tmp_path / "data", count=2, side=80, scale=options["scale"])
    flags = ["-opt", str(OPTIONS / f"{recipe}.yml"), "--force_yml"]
    assert basicsr.main(["train", *flags, *small(recipe, vgg19_file)]) == 0
    losses = common.losses_of(common.log_of(tmp_path))
    assert sorted(losses) == list(range(1, ITERATIONS + 1))
    latest = tmp_path / "experiments/run/models/net_g_latest.safetensors"
    assert read_metadata(latest)["iteration"] == str(ITERATIONS)
    assert "psnr" in common.log_of(tmp_path)


def test_every_system_has_a_recipe_and_every_recipe_a_network():
    known = {name.lower() for name in variants()}
    of = {}
    for recipe in (*RECIPES, *LEFT_OUT):
        text = yaml.safe_load((OPTIONS / f"{recipe}.yml").read_text())
        of[recipe] = text["network_g"]["type"].lower()
    assert set(of.values()) <= known
    assert known <= set(of)  # options/<variant>.yml
    for recipe in RECIPES:
        assert of[recipe] == recipe.removesuffix("_gan")


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ("fusionsr", {"train:grad_clip": 0.5, "datasets:train:gt_size": 256}),
        ("paragonsr_s_gan", {"train:warmup_iter": 5000, "train:grad_clip": 1.0}),
        ("paragonsr2_photo", {"network_g:upsampler_alpha": 0}),
        ("resshuffle", {"datasets:train:batch_size_per_gpu": 32}),
        ("facesr", {"datasets:train:face_size": 512}),
    ],
)
def test_published_values(recipe, wanted):
    options = yaml.safe_load((OPTIONS / f"{recipe}.yml").read_text())
    for path, value in wanted.items():
        found = options
        for key in path.split(":"):
            found = found[key]
        assert found == value, path


def test_the_docs_document_losses_and_discriminators():
    from paragon_archs.archs.msd_arch import MSD
    from paragon_archs.config.table import classes_table
    from paragon_archs.utils.registry import LOSS_REGISTRY

    losses = {
        n: o for n, o in LOSS_REGISTRY if o.__module__.startswith("paragon_archs.")
    }
    text = (OPTIONS.parent / "docs" / "training.md").read_text()
    for table in (classes_table(losses), classes_table({"MSD": MSD})):
        assert table in text, table
