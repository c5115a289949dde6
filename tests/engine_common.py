"""Small data sets and option files for the tests of the training engine."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from paragon_archs.cli import basicsr

OPTIONS: dict[str, Any] = {
    "name": "run",
    "model_type": "ParagonModel",
    "scale": 2,
    "num_gpu": 0,
    "manual_seed": 3,
    "datasets": {
        "train": {
            "name": "few",
            "type": "PairedImageDataset",
            "dataroot_gt": "data/hr",
            "dataroot_lq": "data/lr",
            "io_backend": {"type": "disk"},
            "gt_size": 16,
            "use_hflip": True,
            "use_rot": True,
            "batch_size_per_gpu": 2,
        },
        "val": {
            "name": "few",
            "type": "PairedImageDataset",
            "dataroot_gt": "data/hr",
            "dataroot_lq": "data/lr",
            "io_backend": {"type": "disk"},
        },
    },
    "network_g": {"type": "ParagonSR", "num_feat": 8, "num_groups": 1, "num_blocks": 1},
    "train": {
        "total_iter": 4,
        "ema_decay": 0.9,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "losses": [{"type": "L1Loss"}],
    },
    "val": {
        "val_freq": 4,
        "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2}},
    },
    "logger": {"print_freq": 1, "save_checkpoint_freq": 4},
}

# Changes that make it a GAN, and FusionSR in four stages.
GAN = {
    "model_type": "ParagonGANModel",
    "datasets:train:type": "HRImageDataset",
    "datasets:train:dataroot_lq": ...,
    "datasets:train:io_backend": ...,
    "datasets:train:gt_size": 32,
    "network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
    "network_d2": {"type": "MSD", "num_feat": 4, "num_scales": 2},
    "train:optim_d": {"type": "Adam", "lr": 1e-3},
    "train:gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "train:gan_weights": {"d": 1.0, "d2": 0.5},
    "val:val_freq": 100,
}

NEW = ["conv_first.enhanced_path.*", "conv_first.mix_weight"]
FUSION = {
    "type": "FusionSR",
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "window_size": 4,
}
STAGES = [
    {
        "name": "baseline",
        "iterations": 3,
        "lr": 2e-3,
        "network_g": {"use_rca": False},
    },
    {"name": "enhanced", "iterations": 3, "lr": 1e-3, "train": NEW},
    {"name": "shallow", "iterations": 2, "lr": 1e-3, "train": ["conv_first.*"]},
    {"name": "all", "iterations": 2, "lr": 1e-4},
]
STAGED = {
    "model_type": "ParagonStagedModel",
    "datasets:train:type": "HRImageDataset",
    "datasets:train:dataroot_lq": ...,
    "datasets:train:io_backend": ...,
    "network_g": FUSION,
    "stages": STAGES,
    "train:total_iter": ...,
    "train:optim_g": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1},
    "train:grad_clip": 0.5,
    "val:val_freq": 3,
    "logger:save_checkpoint_freq": 1,
}


def write_images(folder: Path, count: int = 3, side: int = 32, scale: int = 2) -> None:
    """Writes `hr` and `lr` folders of smooth noise, as PNG."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        high = coarse.resize((side, side), Image.Resampling.BICUBIC)
        low = high.resize((side // scale, side // scale), Image.Resampling.BICUBIC)
        for name, image in (("hr", high), ("lr", low)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            image.save(folder / name / f"{index}.png")


def changed(changes: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """Returns the options with entries such as `{"train:grad_clip": 1}` replaced.

    A value of `...` removes the entry.
    """
    options = copy.deepcopy(OPTIONS)
    for path, value in {**(changes or {}), **sections}.items():
        *above, leaf = path.split(":")
        target = options
        for key in above:
            target = target.setdefault(key, {})
        if value is ...:
            target.pop(leaf, None)
        else:
            target[leaf] = value
    return options


def write_options(file: Path, changes: dict[str, Any] | None = None) -> Path:
    """Writes an option file and returns its path."""
    file.write_text(yaml.safe_dump(changed(changes), sort_keys=False))
    return file


def train_staged(here: Path, changes: dict[str, Any] | None = None, *flags: str) -> int:
    """Trains FusionSR in four stages, with changes."""
    return train(here, {**STAGED, **(changes or {})}, *flags)


def state_of(root: Path, iteration: int, name: str = "run") -> dict[str, Any]:
    """Reads the training state of an iteration."""
    file = root / f"experiments/{name}/training_states/{iteration}.state"
    return torch.load(file, weights_only=True)


def losses_of(text: str) -> dict[int, str]:
    """Returns iteration -> everything that the log has about its losses."""
    lines = re.findall(r"iter:\s*([\d,]+), lr:\(([^)]*)\).*?\)\] (.*)", text)
    return {int(i.replace(",", "")): f"{lr} {losses}" for i, lr, losses in lines}


def log_of(root: Path, name: str = "run") -> str:
    """Returns the newest log of a run."""
    logs = (root / "experiments" / name).glob("train_*.log")
    return max(logs, key=lambda log: log.stat().st_mtime_ns).read_text()


def train(here: Path, changes: dict[str, Any] | None = None, *flags: str) -> int:
    """Runs `basicsr train` with the small options, changed; returns its exit status.

    Args:
        here: The working folder.
        changes: As for `changed`.
        flags: More of the command line.
    """
    write_options(here / "o.yml", changes)
    return basicsr.main(["train", "-opt", "o.yml", *flags])
