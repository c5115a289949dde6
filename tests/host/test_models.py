"""Every model class of BasicSR trains, validates and resumes on a CPU.

The option files are like those that BasicSR publishes, with tiny networks and data.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import yaml
from basicsr.utils.registry import MODEL_REGISTRY

from paragon_archs.cli import basicsr

GAN: dict[str, Any] = {
    "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "optim_d": {"type": "Adam", "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
    "net_d_iters": 1,
    "net_d_init_iters": 0,
}
PAIRS: dict[str, Any] = {
    "type": "PairedImageDataset",
    "dataroot_gt": "data4/hr",
    "dataroot_lq": "data4/lr",
    "io_backend": {"type": "disk"},
}
SIDE = 256  # of a frame
CROPS = {"gt_size": 32, "use_hflip": True, "use_rot": False}
CLIPS: dict[str, Any] = {
    "dataroot_gt": "clips/hr",
    "dataroot_lq": "clips/lr",
    "io_backend": {"type": "disk"},
    "interval_list": [1],
    "random_reverse": False,
    "meta_info_file": "clips.txt",
    "val_partition": "REDS4",
    **CROPS,
}
FRAMES = {"dataroot_gt": "val/hr", "dataroot_lq": "val/lr", "cache_data": True}
FRAMES |= {"name": "REDS4", "io_backend": {"type": "disk"}}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4}
RRDB |= {"num_block": 1, "num_grow_ch": 4}
UNET = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
EDVR = {"type": "EDVR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_frame": 3}
EDVR |= {"deformable_groups": 2, "num_extract_block": 1, "num_reconstruct_block": 1}
EDVR |= {"center_frame_idx": None, "hr_in": False, "with_tsa": True}
BASICVSR = {"type": "BasicVSR", "num_feat": 4, "num_block": 1}
SWINIR = {"type": "SwinIR", "upscale": 4, "img_size": 8, "window_size": 4}
SWINIR |= {"depths": [2], "embed_dim": 8, "num_heads": [2], "mlp_ratio": 2}
SWINIR |= {"upsampler": "pixelshuffle", "resi_connection": "1conv"}
MULTI = {"type": "GANLoss", "gan_type": "hinge", "loss_weight": 1.0}

# Model class -> what differs from the host's SRModel.
MODELS: dict[str, dict[str, Any]] = {
    "SRModel": {},
    "SwinIRModel": {"network_g": SWINIR},
    "SRGANModel": {"network_d": UNET, "train": GAN},
    "ESRGANModel": {"network_d": UNET, "train": GAN},
    "HiFaceGANModel": {
        "network_g": {
            "type": "HiFaceGAN",
            "num_in_ch": 3,
            "num_feat": 4,
            "use_vae": False,
            "z_dim": 8,
            "crop_size": 128,
            "norm_g": "spectralspadesyncbatch3x3",
            "is_train": True,
            "init_train_phase": 3,
        },
        "network_d": {
            "type": "HiFaceGANDiscriminator",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "conditional_d": True,
            "num_feat": 4,
            "n_layers_d": 2,
            "num_d": 2,
        },
        "scale": 1,
        "crop": 128,
        "train": {
            **GAN,
            "gan_opt": {**MULTI, "type": "MultiScaleGANLoss"},
            "ema_decay": 0,
        },
        "same_size": True,
    },
    "StyleGAN2Model": {
        "network_g": {
            "type": "StyleGAN2Generator",
            "out_size": 32,
            "num_style_feat": 8,
            "num_mlp": 1,
            "channel_multiplier": 1,
            "narrow": 0.05,
        },
        "network_d": {
            "type": "StyleGAN2Discriminator",
            "out_size": 32,
            "channel_multiplier": 1,
            "narrow": 0.05,
        },
        "train": {
            "gan_opt": {"type": "GANLoss", "gan_type": "wgan_softplus"},
            "optim_d": {"type": "Adam", "lr": 1e-3},
            "r1_reg_weight": 10,
            "path_reg_weight": 2,
            "path_batch_shrink": 2,
            "mixing_prob": 0.9,
            "net_g_reg_every": 1,
            "net_d_reg_every": 1,
            "pixel_opt": None,
        },
        "val": {"metrics": None, "num_val_samples": 2},
        "without_val": True,
    },
    "EDVRModel": {
        "network_g": EDVR,
        "video": ("REDSDataset", "VideoTestDataset"),
        "train": {"tsa_iter": 1, "dcn_lr_mul": 0.5},
    },
    "VideoBaseModel": {"network_g": EDVR, "video": ("REDSDataset", "VideoTestDataset")},
    "VideoGANModel": {
        "network_g": EDVR,
        "network_d": UNET,
        "train": GAN,
        "video": ("REDSDataset", "VideoTestDataset"),
    },
    "VideoRecurrentModel": {
        "network_g": BASICVSR,
        "video": ("REDSRecurrentDataset", "VideoRecurrentTestDataset"),
        "train": {"fix_flow": 2, "flow_lr_mul": 0.125},
    },
    "VideoRecurrentGANModel": {
        "network_g": BASICVSR,
        "network_d": UNET,
        "train": {**GAN, "fix_flow": 2, "lr_flow": 1e-5},
        "video": ("REDSRecurrentDataset", "VideoRecurrentTestDataset"),
    },
}
ELSEWHERE = {"RealESRNetModel", "RealESRGANModel"}  # test_real_esrgan.py


def options(name: str) -> dict[str, Any]:
    case = MODELS[name]
    scale = case.get("scale", 4)
    train, val = {**PAIRS, **CROPS, "name": "few"}, {**PAIRS, "name": "Set5"}
    if case.get("same_size"):
        train["dataroot_lq"] = val["dataroot_lq"] = "data4/hr"
    if "video" in case:
        kinds = case["video"]
        frames = {"num_frame": 3, "dataroot_flow": None}
        train = {**CLIPS, **frames, "name": "REDS", "type": kinds[0]}
        if kinds[0] == "REDSRecurrentDataset":  # SpyNet halves its input six times
            train |= {"gt_size": SIDE, "test_mode": False}
            del train["dataroot_flow"]
        val = {**FRAMES, "num_frame": 3, "padding": "replicate", "type": kinds[1]}
    train["gt_size"] = case.get("crop", train["gt_size"])
    train |= {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0, "prefetch_mode": None}
    psnr = {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}
    opt: dict[str, Any] = {
        "name": "run",
        "model_type": name,
        "scale": scale,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": train, "val": val},
        "network_g": case.get("network_g", RRDB),
        "path": {"pretrain_network_g": None, "strict_load_g": True},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-4, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5},
            "total_iter": 2,
            "warmup_iter": -1,
            "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0},
            **case.get("train", {}),
        },
        "val": {"val_freq": 1, "save_img": False, "metrics": {"psnr": psnr}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
        "dist_params": {"backend": "nccl", "port": 29500},
    }
    opt["val"] |= case.get("val", {})
    if case.get("without_val"):
        del opt["datasets"]["val"]
    if "network_d" in case:
        opt["network_d"] = case["network_d"]
    return opt


def write_clips(here: Path) -> None:
    """A clip of 100 frames to train with, as REDS has them, and one of three."""
    common.write_images(here / "frames", side=SIDE, scale=4)
    for root, name, count in (("clips", "001", 100), ("val", "000", 3)):
        for side in ("hr", "lr"):
            folder = here / root / side / name
            folder.mkdir(parents=True)
            for index in range(count):
                source = here / f"frames/{side}/{index % 3}.png"
                os.link(source, folder / f"{index:08d}.png")
    (here / "clips.txt").write_text("001 100 (256,256,3)\n")


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_of_the_host_trains_validates_and_resumes(
    name: str, here: Path
) -> None:
    side = 2 * MODELS[name].get("crop", 32)
    common.write_images(here / "data4", side=side, scale=4)
    opt = options(name)
    if "video" in MODELS[name]:
        write_clips(here)
    Path("o.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    resumed = ["--auto_resume", "--force_yml", "train:total_iter=3"]
    assert basicsr.main(["train", "-opt", "o.yml", *resumed]) == 0
    log = common.log_of(here)
    assert list(common.losses_of(log)) == [3]
    if not MODELS[name].get("without_val"):
        assert re.search(r"# psnr: \d+\.\d+", log)


def test_every_class_of_the_host_is_tried() -> None:
    known = {name.removesuffix("_basicsr") for name, _ in MODEL_REGISTRY}
    known = {name for name in known if not name.startswith("Paragon")}
    assert known == set(MODELS) | ELSEWHERE


@pytest.mark.parametrize("side", [64, 96, 200])
def test_niqe_of_small_images(side: int, here: Path) -> None:
    """Below two blocks of 96 pixels there is none; the others are averaged."""
    common.write_images(here / "set", side=side)
    niqe = {"type": "calculate_niqe", "crop_border": 0, "better": "lower"}
    changes = {
        "datasets:val:dataroot_gt": "set/hr",
        "datasets:val:dataroot_lq": "set/lr",
        "val:metrics": {"niqe": niqe},
    }
    assert common.train(here, changes) == 0
    value = re.search(r"# niqe: (\S+)", common.log_of(here))
    assert value is not None and (value[1] == "nan") is (side < 192)


def test_early_stopping_of_a_video_model(here: Path) -> None:
    write_clips(here)
    opt = options("VideoRecurrentModel")
    opt["train"] |= {"total_iter": 9, "optim_g": {"type": "SGD", "lr": 0.0}}
    opt["val"]["early_stopping"] = {"metric": "psnr", "patience": 2}
    Path("o.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    assert list(common.losses_of(common.log_of(here))) == [1, 2, 3]
