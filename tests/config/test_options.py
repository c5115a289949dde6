"""The option checker: every message, the host's files, overriding, lines."""

from __future__ import annotations

import fnmatch
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import engine_common as common
import fuzz_common
import fuzz_options
import pytest
import torch
import yaml
from option_scan import read_keys
from PIL import Image

from paragon_archs.archs import create, variants
from paragon_archs.checkpoint import save_model
from paragon_archs.cli import basicsr
from paragon_archs.cli.session import arguments_of, prepare
from paragon_archs.config.check import check_options
from paragon_archs.config.errors import MESSAGES
from paragon_archs.config.keys import KEYS
from paragon_archs.config.loading import force, load_options
from paragon_archs.config.signatures import known_types
from paragon_archs.config.table import config_page
from paragon_archs.config.values import is_name, is_template

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
WITHOUT_OPTIONS = {"running", "no_file", "not_yaml", "not_text", "no_mapping"}


def test_every_message_is_tested() -> None:
    assert set(WRONG) | WITHOUT_OPTIONS == set(MESSAGES)


@pytest.mark.parametrize(
    ("message", "mistake"),
    [*WRONG.items(), *MORE],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_options_give_one_sentence(
    message: str,
    mistake: Wrong,
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if message == "no_package" and importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    monkeypatch.delenv("RANK", raising=False)
    (here / "empty" / "sub").mkdir(parents=True)
    shutil.copytree("data/hr", "more")
    shutil.copy("data/hr/0.png", "more/9.png")
    shutil.copytree("data/hr", "notes")
    Path("notes/Thumbs.db").write_bytes(b"no image")
    shutil.copytree("data/hr", "bad")
    Path("bad/0.png").write_bytes(b"no image")
    Path("nothing.txt").write_text("")
    Path("wrong.txt").write_text("0.png (32,32,3)\ngone.png (32,32,3)\n")
    save_model(create("ParagonSR", 2, num_feat=16, num_groups=1), "other.safetensors")
    few = {"num_feat": 8, "num_groups": 1, "num_blocks": 1}
    save_model(create("ParagonSR", 4, **few), "x4.safetensors")
    Path("cut.state").write_bytes(b"PK\x03\x04 cut off")
    changes, flags, parts = mistake
    torch.save({"iter": 1, "networks": {"net_g": {"a": torch.ones(1)}}}, "other.state")
    assert common.train(here, changes, *flags) == 2
    errors = [e for e in capfd.readouterr().err.splitlines() if e.startswith("error: ")]
    head = MESSAGES[message].split("{")[0]
    sentences = [e for e in errors if e.startswith(f"error: {head}")]
    assert sentences, errors
    for part in parts:
        assert any(part in sentence for sentence in sentences), (part, sentences)
    assert not Path("experiments").exists()


def test_files_that_are_no_option_files(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "not_yaml": "a: [1\nb: 2\n",
        "not_text": b"\xff\xfe\x00",
        "no_mapping": "- 1\n",
    }
    for text in texts.values():
        raw = text if isinstance(text, bytes) else text.encode()
        Path("o.yml").write_bytes(raw)
        assert basicsr.main(["train", "-opt", "o.yml"]) == 2
        assert capfd.readouterr().err.startswith("error: Expected 'o.yml' to be ")
    Path("o.yml").write_text("a: 1\nb: 2\na: 3\n")
    assert basicsr.main(["train", "-opt", "o.yml"]) == 2
    assert "'a' is given twice (o.yml, line 3)" in capfd.readouterr().err
    assert basicsr.main(["train", "-opt", "none.yml"]) == 2
    assert "'none.yml'" in capfd.readouterr().err


# Texts that cost minutes or end in a traceback, and what their sentence holds.
HOSTILE = {
    "laughs": (fuzz_options.LAUGHS, "more than 10,000 keys and values"),
    "merges": (fuzz_options.MERGED, "more than 10,000 keys and values"),
    "lists": ("a: " + "[" * 900, "deeper than 40"),
    "sections": ("\n".join(" " * i + "a:" for i in range(900)), "deeper than 40"),
    "itself": ("a: &a [*a]", "holds itself"),
    "keys": ("x: 1\n" * 40_000, "more than 10,000 keys and values"),
    "comment": ("#" * (1 << 21), "more than 1 MiB"),
    "digits": ("a: " + "9" * 5000, "a value is no int"),
    "number": ("a: !!int x", "a value is no int"),
    "date": ("a: !!timestamp 2026-13-45", "a value is no timestamp"),
    "merge": ("<<: 3", "a mapping"),
    "code": ("a: !!python/object/apply:os.system ['true']", "could not determine"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_one_sentence(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, part = HOSTILE[name]
    Path("o.yml").write_text(text)
    assert basicsr.main(["train", "-opt", "o.yml"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: Expected ") and err.count("\n") == 1
    assert part in err
    assert len(err) < 600


def test_aliases_within_bounds_are_read(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("a: &a {b: 1, c: &c [2, 3]}\nd: {<<: *a, b: 4}\ne: [*c, *c]\n")
    assert load_options(file).values == {
        "a": {"b": 1, "c": [2, 3]},
        "d": {"b": 4, "c": [2, 3]},
        "e": [[2, 3], [2, 3]],
    }


def test_generated_option_files_end_in_sentences(tmp_path: Path) -> None:
    results = fuzz_options.fuzz(tmp_path, count=300, seed=16)
    assert len(results) == 300
    assert [r for r in results if not fuzz_common.right(r)] == []
    assert sum(r["code"] == 2 for r in results) > 200
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"data", "files", "right.yml"}


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *((name, False) for name in UNNAMED),
        *(("Set5", True), ("2026-11-20", True), ("x.y_z", True), ("\u00e9", True)),
    ],
)
def test_names_are_parts_of_paths(name: str, fits: bool) -> None:
    assert is_name(name) == fits
    assert is_template(f"{name}{{}}") == (fits or name == "..")


def test_the_main_mistakes_at_once(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "train:losess=3",
        "network_g:type=paragonsr_q",
        "scale=two",
        "train:optim_g:lr='1e-4'",
        "train:optim_g:momentun=1",
    ]
    assert common.train(here, None, "--force_yml", *flags) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == len(flags)
    assert all(flag in " ".join(errors) for flag in flags)


def test_numbers_lines_and_overriding(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("a: 1e-4\nb:\n  - c: 5E3\n    d: [1_000, -1e+2]\ne: 1e\n")
    options = load_options(file)
    assert options.values["a"] == 1e-4
    assert options.values["b"][0] == {"c": 5000.0, "d": [1000, -100.0]}
    assert options.values["e"] == "1e"
    assert options.place(("b", 0, "d")) == f"{file}, line 4"
    force(
        options,
        [
            "a=1e-5",
            "b:0:c=-1",
            "n:m:o=x=y=z",
            "p=None",
            "q=[0.9, 0.99]",
            "e=@home",
            "r=true",
        ],
    )
    assert options.values["a"] == 1e-5
    assert options.values["b"][0]["c"] == -1
    assert options.values["n"] == {"m": {"o": "x=y=z"}}
    assert options.values["p"] is None
    assert options.values["q"] == [0.9, 0.99]
    assert options.values["e"] == "@home"
    assert options.values["r"] is True


def test_names_may_be_dates_and_the_process_keeps_its_yaml(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("name: 2026-11-20\nother: 2026-13-45\n")
    values = load_options(file).values
    assert values == {"name": "2026-11-20", "other": "2026-13-45"}
    assert yaml.safe_load("1e-4") == "1e-4"  # as YAML 1.1 has it
    assert str(yaml.safe_load("2026-11-20")) == "2026-11-20"


def test_overridden_seed_counts(here: Path) -> None:
    common.write_options(here / "o.yml")
    arguments = arguments_of(
        "train", ["-opt", "o.yml", "--force_yml", "manual_seed=77"]
    )
    assert prepare(arguments, True, here).values["manual_seed"] == 77


@pytest.mark.parametrize("name", [v for v in variants() if v.startswith("paragonsr_")])
def test_the_packs_option_files_pass(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From any folder; only the data is missing, and each folder is named."""
    assert basicsr.main(["train", "-opt", f"options/{name}.yml"]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert errors and all("to be an existing folder" in e for e in errors)


HOST_FILE = """
name: host_{kind}
model_type: {model}
scale: 4
num_gpu: 0
manual_seed: 0
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: data4/hr
    dataroot_lq: data4/lr
    filename_tmpl: '{{}}'
    io_backend:
      type: disk
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 10
    prefetch_mode: ~
    {extra}
  val_1:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: data4/hr
    dataroot_lq: data4/lr
    {extra}
    io_backend:
      type: disk
network_g:
  type: {network}
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~
train:
  ema_decay: {ema}
  optim_g:
    type: {optimizer}
    lr: !!float 2e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    {scheduler}
  total_iter: 3
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 2e0
  save_img: true
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 4
      test_y_channel: false
      better: higher
logger:
  print_freq: 1
  save_checkpoint_freq: !!float 3e0
  use_tb_logger: false
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""
COSINE = """type: CosineAnnealingRestartLR
    periods: [1, 1]
    restart_weights: [1, 1]
    eta_min: !!float 1e-7"""
MULTI = """type: MultiStepLR
    milestones: [2]
    gamma: 0.5"""
HOST_KINDS = {
    "msrresnet": {"network": "MSRResNet\n  num_feat: 4\n  num_block: 1\n  upscale: 4"},
    "edsr": {
        "network": "EDSR\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 4\n"
        "  num_block: 1\n  upscale: 4\n  res_scale: 1\n  img_range: 255.\n"
        "  rgb_mean: [0.4488, 0.4371, 0.4040]",
        "ema": 0,
        "scheduler": MULTI,
    },
    "rcan": {
        "network": "RCAN\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 8\n"
        "  num_group: 1\n  num_block: 1\n  squeeze_factor: 4\n  upscale: 4\n"
        "  res_scale: 1\n  img_range: 255.\n  rgb_mean: [0.4488, 0.4371, 0.4040]",
        "scheduler": MULTI,
    },
    "rrdb": {
        "network": "RRDBNet\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 4\n"
        "  num_block: 1\n  num_grow_ch: 4",
        "optimizer": "AdamW",
    },
    "ecbsr": {
        "network": "ECBSR\n  num_in_ch: 1\n  num_out_ch: 1\n  num_block: 1\n"
        "  num_channel: 4\n  with_idt: False\n  act_type: prelu\n  scale: 4",
        "extra": "color: y",
        "ema": 0,
        "scheduler": MULTI,
    },
    "swinir": {
        "model": "SwinIRModel",
        "network": "SwinIR\n  upscale: 4\n  in_chans: 3\n  img_size: 8\n"
        "  window_size: 8\n  img_range: 1.\n  depths: [2]\n  embed_dim: 8\n"
        "  num_heads: [2]\n  mlp_ratio: 2\n  upsampler: 'pixelshuffle'\n"
        "  resi_connection: '1conv'",
        "scheduler": MULTI,
    },
}


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_the_hosts_files_pass_and_train(kind: str, here: Path) -> None:
    """Files written like those that BasicSR publishes, one of every network."""
    common.write_images(here / "data4", scale=4, side=48)
    values = {
        "kind": kind,
        "model": "SRModel",
        "extra": "",
        "ema": 0.999,
        "optimizer": "Adam",
        "scheduler": COSINE,
        **HOST_KINDS[kind],
    }
    Path("o.yml").write_text(HOST_FILE.format(**values))
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    folder = here / "experiments" / f"host_{kind}"
    weights = torch.load(folder / "models" / "net_g_3.pth", weights_only=True)
    assert ("params_ema" in weights) == (values["ema"] != 0)
    assert (folder / "training_states" / "3.state").is_file()
    assert len(list((folder / "visualization").rglob("*.png"))) == 6


def test_keys_of_a_host_model_that_nobody_reads_are_wrong(tmp_path: Path) -> None:
    file = common.write_options(
        tmp_path / "o.yml",
        {"model_type": "SRGANModel", "train:losses": ..., "train:gan_optt": {}},
    )
    with pytest.raises(ValueError, match="Did you mean gan_opt"):
        check_options(load_options(file), is_train=True)


def test_pack_option_files_are_found_from_anywhere(here: Path) -> None:
    Image.new("RGB", (4, 4)).save("x.png")
    with pytest.raises(ValueError, match="neither in this folder"):
        prepare(arguments_of("train", ["-opt", "options/x.yml"]), True, here)


def test_the_page_of_keys_is_current(root: Path) -> None:
    assert config_page() == (root / "docs" / "config.md").read_text()


def test_every_key_that_our_models_read_is_in_the_table() -> None:
    """What a model of ours reads out of its options is documented, and checked."""
    own: list[Any] = [
        target
        for target in known_types("model").values()
        if getattr(target, "__module__", "").startswith("paragon_archs.")
    ]
    assert len(own) >= 3
    known = {pattern.split(":")[-1] for pattern in KEYS}
    set_by_the_trainer = {"dist", "rank", "world_size", "is_train", "current_iter"}
    set_by_the_trainer |= {"iterations_per_epoch", "models", "visualization", "opt"}
    set_by_the_trainer |= {"training_states"}
    for target in own:
        read = {name for _, name in read_keys(target)}
        missing = {
            name
            for name in read - known - set_by_the_trainer
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known - {"*"})
        }
        assert not missing, (target.__name__, missing)


def test_early_stopping_of_what_is_not_there(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for key, value in (("metric", "psnrr"), ("dataset", "fwe")):
        rule = {"metric": "psnr", "patience": 2, key: value}
        assert common.train(here, {"val:early_stopping": rule}) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert f"val:early_stopping:{key} to be one of" in error and value in error
    assert not Path("experiments").exists()


def test_a_set_is_left_out_from_the_command_line(here: Path) -> None:
    assert common.train(here, None, "--force_yml", "datasets:val=~") == 0
    assert "Validation" not in common.log_of(here)
