"""Mistakes of option files, and what their sentences hold."""

from __future__ import annotations

from typing import Any

import engine_common as common

# Message id -> changes of the options, flags, and what the sentence must hold.
Wrong = tuple[dict[str, Any], list[str], list[str]]


WRONG: dict[str, Wrong] = {
    "force_form": ({}, ["--force_yml", "scale"], ["key:path=value", "'scale'"]),
    "force_path": (
        {},
        ["--force_yml", "train:losses:1:type=L1Loss"],
        ["'train:losses' is a list of 1", "'1'"],
    ),
    "unknown_key": (
        {"train:pixl_opt": {"type": "L1Loss"}},
        [],
        ["'train'", "'pixl_opt'", "Did you mean pixel_opt?", "o.yml, line"],
    ),
    "other_model": (
        {"model_type": "SRModel", "train:losses": ..., "train:grad_clip": 1.0},
        [],
        ["SRModel", "'grad_clip'", "only ParagonModel knows"],
    ),
    "missing_key": ({"train:total_iter": ...}, [], ["'train:total_iter'"]),
    "wrong_kind": (
        {"train:total_iter": "12"},
        [],
        ["a whole number", "'12'", "without quotes"],
    ),
    "wrong_choice": (
        {"train:precision": "bf61"},
        [],
        ["fp32, bf16, fp16", "'bf61'", "Did you mean bf16?"],
    ),
    "too_small": ({"train:accum_iter": 0}, [], ["at least 1", "0"]),
    "too_large": (
        {"manual_seed": 2**63 - 1},
        [],
        ["'manual_seed'", "at most", "Lower it"],
    ),
    "unknown_type": (
        {"network_g:type": "paragonsr_z"},
        [],
        ["'network_g:type'", "'paragonsr_z'", "Did you mean paragonsr_"],
    ),
    "no_training": ({"datasets": {}}, [], ["a set for train"]),
    "no_gpu": ({"num_gpu": 99}, [], ["num_gpu: auto"]),
    "scale_differs": ({"network_g:scale": 3}, [], ["scale (2)", "3"]),
    "channels_differ": (
        {"network_g:in_chans": 1},
        [],
        ["datasets:train:channels", "network_g:in_chans (1)", "got 3"],
    ),
    "network": (
        {"network_g:band_kernel_size": 4},
        [],
        ["'network_g'", "band_kernel_size to be odd"],
    ),
    "model": ({"train:losses": []}, [], ["at least one loss", "o.yml"]),
    "no_step": (
        {"train:optim_g": {"type": "Adam", "lr": -1.0}},
        [],
        ["'train:optim_g'", "Invalid learning rate", "o.yml, line"],
    ),
    "wandb_alone": (
        {"logger:wandb": {"project": "mine"}},
        [],
        ["logger:wandb:project", "'mine'"],
    ),
    "no_package": (
        {"logger:wandb": {"project": "mine"}, "logger:use_tb_logger": True},
        [],
        ["pip install wandb"],
    ),
    "same_name": (
        {"datasets:val_2": common.OPTIONS["datasets"]["val"]},
        [],
        ["datasets:val_2:name", "'few'"],
    ),
    "no_target": (
        {
            "datasets:val:type": "SingleImageDataset",
            "datasets:val:dataroot_gt": ...,
        },
        [],
        ["'datasets:val'", "'psnr'"],
    ),
    "no_folder": (
        {"datasets:train:dataroot_gt": "nowhere"},
        [],
        ["'nowhere'", "--force_yml datasets:train:dataroot_gt=FOLDER"],
    ),
    "no_data_file": (
        {"datasets:train:meta_info_file": "no.txt"},
        [],
        ["meta_info_file", "'no.txt'"],
    ),
    "empty_folder": ({"datasets:train:dataroot_gt": "empty"}, [], ["'empty'"]),
    "empty_list": (
        {"datasets:train:meta_info_file": "nothing.txt"},
        [],
        ["'datasets:train:meta_info_file'", "'nothing.txt' with none"],
    ),
    "unlisted": (
        {"datasets:train:meta_info_file": "wrong.txt"},
        [],
        ["'wrong.txt'", "gone.png'"],
    ),
    "unpaired": ({"datasets:val:dataroot_gt": "more"}, [], ["9.png"]),
    "unreadable": ({"datasets:val:dataroot_gt": "bad"}, [], ["0.png"]),
    "crop_scale": (
        {"datasets:train:gt_size": 15},
        [],
        ["multiple of scale (2)", "15", "Take 16"],
    ),
    "too_small_image": (
        {"datasets:train:gt_size": 64},
        [],
        ["gt_size (64)", "32x32"],
    ),
    "pair_scale": (
        {"datasets:val:dataroot_lq": "data/hr"},
        [],
        ["2 times their LR", "32x32 for an LR of 32x32"],
    ),
    "no_weights": (
        {"path": {"pretrain_network_g": "no.pth"}},
        [],
        ["path:pretrain_network_g", "'no.pth'"],
    ),
    "other_network": (
        {"path": {"pretrain_network_g": "other.safetensors"}},
        [],
        ["weights of ParagonSR", "other.safetensors", "a ParagonSR (training form)"],
    ),
    "other_scale": (
        {"path:pretrain_network_g": "x4.safetensors"},
        [],
        ["for scale 2", "'x4.safetensors'", "for scale 4", "pretrain_scale: any"],
    ),
    "no_state": (
        {"path": {"resume_state": "cut.state"}},
        [],
        ["'cut.state'", "cut off"],
    ),
    "other_state": (
        {"path": {"resume_state": "other.state"}},
        [],
        ["'other.state'", "its net_g is another network"],
    ),
    "data_set": (
        {
            "datasets:train:type": "RealESRGANPairedDataset",
            "datasets:train:meta_info": "wrong.txt",
        },
        [],
        ["'few'", "not enough values"],
    ),
    "stages": (
        {"model_type": "ParagonStagedModel", "stages": [{"name": "first"}]},
        [],
        ["first", "iterations"],
    ),
    "launcher": ({}, ["--launcher", "pytorch"], ["torchrun", "RANK"]),
}


# More mistakes of a kind that stands above.
DEGRADED: dict[str, Any] = {
    "model_type": "ParagonGANModel",
    "network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3},
    "train:optim_d": {"type": "Adam", "lr": 1e-4},
    "train:gan_opt": {"type": "GANLoss", "gan_type": "vanilla"},
    "datasets:train": {
        "name": "few",
        "type": "DegradedImageDataset",
        "dataroot_gt": "data/hr",
        "batch_size_per_gpu": 1,
        "gt_size": 16,
        "crop_size": 64,
    },
}


MORE: list[tuple[str, Wrong]] = [
    (
        "too_small_image",
        (DEGRADED, [], ["crop_size (64)", "Lower crop_size", "o.yml, line"]),
    ),
    (
        "crop_scale",
        (
            {**DEGRADED, "datasets:train:crop_size": 31},
            [],
            ["'datasets:train:crop_size'", "o.yml, line"],
        ),
    ),
    (
        "too_small",
        (
            {**DEGRADED, "datasets:train:crop_size": 8},
            [],
            ["'datasets:train:crop_size'", "at least 16", "o.yml, line"],
        ),
    ),
    ("wrong_kind", ({"name": ""}, [], ["'name'", "letters, digits"])),
    ("wrong_kind", ({"name": ".."}, [], ["'..'"])),
    ("wrong_kind", ({"name": "a/b"}, [], ["'a/b'"])),
    ("wrong_kind", ({"network_g": None}, [], ["'network_g'", "a section", "None"])),
    ("wrong_kind", ({"train:optim_g": None}, [], ["'train:optim_g'", "None"])),
    ("wrong_kind", ({"datasets:train:dataroot_gt": 5}, [], ["dataroot_gt'", "5"])),
    ("wrong_kind", ({"datasets:train:dataroot_gt": None}, [], ["None"])),
    ("wrong_kind", ({"datasets:train:io_backend": "disk"}, [], ["a section"])),
    ("wrong_kind", ({"datasets:train:gt_size": "16"}, [], ["without quotes"])),
    ("wrong_kind", ({"datasets:train:use_hflip": "yes"}, [], ["true or false"])),
    (
        "wrong_kind",
        (
            {"train:scheduler": {"type": "MultiStepLR", "milestones": "1, 2"}},
            [],
            ["'train:scheduler:milestones'", "a list"],
        ),
    ),
    ("missing_key", ({"datasets:train:gt_size": ...}, [], ["train:gt_size'"])),
    ("missing_key", ({"datasets:train:use_rot": ...}, [], ["train:use_rot'"])),
    ("missing_key", ({"datasets:val:dataroot_lq": ...}, [], ["val:dataroot_lq'"])),
    ("missing_key", ({"datasets:val:io_backend": ...}, [], ["val:io_backend'"])),
    ("too_small", ({"datasets:train:gt_size": 0}, [], ["gt_size'", "at least 1"])),
    ("too_small", ({"num_gpu": -1}, [], ["'num_gpu'", "at least 0"])),
    (
        "wrong_choice",
        ({"datasets:train:io_backend": {"type": "dsk"}}, [], ["disk, lmdb", "'dsk'"]),
    ),
    (
        "unknown_type",
        (
            {"val:metrics": {"psnr": {"type": "calculate_psnr_pt", "crop_border": 2}}},
            [],
            ["Did you mean calculate_psnr?"],
        ),
    ),
    ("no_training", ({}, ["--force_yml", "datasets:train=~"], ["a set for train"])),
    ("unreadable", ({"datasets:train:dataroot_gt": "notes"}, [], ["notes/Thumbs.db"])),
    ("network", ({"network_g:num_feat": -3}, [], ["'network_g'", "negative"])),
    (
        "no_step",
        (
            {
                "train:scheduler": {
                    "type": "CosineAnnealingRestartLR",
                    "periods": [2, 2],
                }
            },
            [],
            ["periods and restart_weights"],
        ),
    ),
]


# What becomes a part of a path or a name in logs: its key, as a change of the options.
NAMED: list[tuple[str, str]] = [
    ("name", "{}"),
    ("datasets:val:name", "{}"),
    ("datasets:train:name", "{}"),
    ("stages", "stages"),
    ("train:losses", "losses"),
    ("val:metrics", "metrics"),
    ("val:suffix", "{}"),
]


UNNAMED = [
    "../up",
    "/elsewhere",
    "a/b",
    "a\\b",
    "..",
    "a b",
    "n\0",
    "b" * 101,
    "\u00e9" * 51,
]


def _named(key: str, form: str, name: str) -> dict[str, Any]:
    return {
        "{}": {key: name},
        "stages": {
            "model_type": "ParagonStagedModel",
            "stages": [{"name": name, "iterations": 1}],
        },
        "losses": {"train:losses": [{"type": "L1Loss", "name": name}]},
        "metrics": {
            "val:metrics": {name: {"type": "calculate_psnr", "crop_border": 2}}
        },
    }[form]


# More that numbers, templates and flags can be wrong in.
VALUES: list[tuple[str, dict[str, Any], str]] = [
    ("wrong_kind", {"datasets:train:filename_tmpl": "{:>1000000000}"}, "{} among"),
    ("wrong_kind", {"datasets:val:filename_tmpl": "{0.__class__}"}, "{} among"),
    ("wrong_kind", {"datasets:val:filename_tmpl": "../{}"}, "{} among"),
    ("wrong_kind", {"scale": 10**30}, "of 64 bits"),
    ("wrong_kind", {"manual_seed": 2**64}, "of 64 bits"),
    ("wrong_kind", {"train:optim_g:weight_decay": float("nan")}, "a finite number"),
    ("wrong_kind", {"train:optim_g:lr": float("inf")}, "a finite number"),
    ("wrong_kind", {"network_g:ffn_expansion": float("nan")}, "a finite number"),
    ("wrong_kind", {"datasets:train:dataroot_gt": "a\0"}, "NUL"),
    ("wrong_kind", {"datasets:train:dataroot_gt": "b" * 300}, "over 255 bytes"),
    ("wrong_kind", {"val:metrics:psnr:crop_border": None}, "a whole number"),
    ("wrong_kind", {"val:metrics:psnr:crop_border": 0.5}, "a whole number"),
    ("wrong_kind", {"val:metrics:psnr:crop_border": []}, "a whole number"),
    ("wrong_kind", {"val:metrics:psnr": None}, "a section"),
    ("wrong_kind", {"train:losses": [None]}, "a section"),
    ("too_small", {"val:metrics:psnr:crop_border": -1}, "at least 0"),
    ("wrong_choice", {"val:metrics:psnr:input_order": "WHC"}, "HWC, CHW"),
    ("too_small", {"manual_seed": -1}, "at least 0"),
    ("too_large", {"train:ema_decay": 1.5}, "at most 1"),
    ("too_large", {"datasets:train:num_worker_per_gpu": 10**6}, "at most 512"),
    ("unknown_key", {"train:optim_g:differentiable": True}, "'differentiable'"),
    (
        "no_step",
        {"train:optim_g:fused": True, "train:optim_g:foreach": True},
        "'train:optim_g'",
    ),
    ("no_step", {"train:optim_g:type": "SparseAdam"}, "SparseAdam"),
    ("no_step", {"train:scheduler": {"type": "StepLR", "step_size": 0}}, "zero"),
    ("network", {"network_g:num_groups": 10**4}, "fewer layers"),
    ("too_large", {"network_g:num_groups": 10**9}, "at most 65536"),
    ("network", {"network_g:num_feat": 10**4}, "268,435,456 numbers"),
]


MORE += [(message, (changes, [], [part])) for message, changes, part in VALUES]


MORE += [
    ("wrong_kind", (_named(key, form, name), [], []))
    for key, form in NAMED
    for name in UNNAMED[:2]
]
