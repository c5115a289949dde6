"""A run that is resumed with another option file follows it, and logs that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch

SR: dict[str, Any] = {
    "model_type": "SRModel",
    "train:losses": ...,
    "train:pixel_opt": {"type": "L1Loss"},
}
PLAIN: dict[str, Any] = {"val": ..., "logger:save_checkpoint_freq": 100}


def rates(here: Path, name: str) -> list[str]:
    return re.findall(r"lr:\(([^)]*)\)", common.log_of(here, name))


def scheduler(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"train:scheduler": {"type": kind, **arguments}}


# What the first run has, and what the option file has when it is resumed.
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cosine, longer": (scheduler("CosineAnnealingLR"), {}),
    "one cycle, longer": (scheduler("OneCycleLR", max_lr=0.01), {}),
    "polynomial": (
        scheduler("PolynomialLR", total_iters=5),
        scheduler("PolynomialLR", total_iters=10),
    ),
    "milestones": (
        scheduler("MultiStepLR", milestones=[3, 7], gamma=0.5),
        scheduler("MultiStepLR", milestones=[4, 8, 9], gamma=0.1),
    ),
    "restarts": (
        scheduler("CosineAnnealingWarmRestarts", T_0=3),
        scheduler("CosineAnnealingWarmRestarts", T_0=4),
    ),
    "another kind": (
        scheduler("StepLR", step_size=2),
        scheduler("ExponentialLR", gamma=0.9),
    ),
    "none before": ({}, scheduler("CosineAnnealingLR")),
    "none after": (scheduler("CosineAnnealingLR"), {"train:scheduler": ...}),
    "rate": (
        {"train:optim_g:lr": 1e-3, **scheduler("CosineAnnealingLR")},
        {"train:optim_g:lr": 5e-4},
    ),
    "constant rate": ({}, {"train:optim_g:lr": 5e-4}),
    "warm-up": (
        {"train:warmup_iter": 2},
        {"train:warmup_iter": 9, **scheduler("CosineAnnealingLR")},
    ),
}


@pytest.mark.parametrize("kind", [{}, SR], ids=["ours", "SRModel"])
@pytest.mark.parametrize("case", list(SCHEDULES))
def test_a_resumed_schedule_is_that_of_the_option_file(
    case: str, kind: dict[str, Any], here: Path
) -> None:
    before, changes = SCHEDULES[case]
    before = {**kind, **PLAIN, "train:total_iter": 5, **before}
    after = {**before, "train:total_iter": 10, **changes}
    assert common.train(here, {**before, "name": "parts"}) == 0
    assert common.train(here, {**after, "name": "parts"}, "--auto_resume") == 0
    assert common.train(here, {**after, "name": "whole"}) == 0
    assert rates(here, "parts") == rates(here, "whole")[5:]


OPTIMIZERS = {
    "betas": ({"betas": [0.8, 0.9]}, {"betas": [0.9, 0.99]}),
    "given no more": ({"weight_decay": 0.1}, {}),
    "given now": ({}, {"weight_decay": 0.1, "eps": 1e-3}),
}


@pytest.mark.parametrize("case", list(OPTIMIZERS))
def test_resumed_optimizers_have_the_option_files_arguments(
    case: str, here: Path
) -> None:
    before, after = (
        {"train:optim_g": {"type": "AdamW", "lr": 1e-3, **arguments}}
        for arguments in OPTIMIZERS[case]
    )
    groups = []
    for name, first in (("parts", before), ("whole", after)):
        changes = {**PLAIN, "name": name, "train:total_iter": 2}
        assert common.train(here, {**changes, **first}) == 0
        changes["train:total_iter"] = 3
        assert common.train(here, {**changes, **after}, "--auto_resume") == 0
        state = f"experiments/{name}/training_states/3.state"
        optimizer = torch.load(state, weights_only=True)["optimizers"][0]
        assert optimizer["state"][0]["step"] == 3  # its moments went on
        groups.append(optimizer["param_groups"])
    assert groups[0] == groups[1]


CHANGES: dict[str, tuple[Any, str]] = {
    "train:total_iter": (3, "train:total_iter 3 instead of 2."),
    "train:optim_g:lr": (0.5, "train:optim_g:lr 0.5 instead of 0.001."),
    "train:grad_clip": (0.1, "train:grad_clip 0.1 instead of 0.0."),
    "train:scheduler": (
        {"type": "StepLR", "step_size": 5},
        "train:scheduler:type 'StepLR' instead of nothing.",
    ),
    "train:losses": (
        [{"type": "MSELoss"}],
        "train:losses:0:type 'MSELoss' instead of 'L1Loss'.",
    ),
    "datasets:train:batch_size_per_gpu": (
        3,
        "datasets:train:batch_size_per_gpu 3 instead of 2.",
    ),
    "datasets:train:use_rot": (False, "datasets:train:use_rot False instead of True."),
    "manual_seed": (9, "the state's manual_seed 3 instead of 9"),
    "val": (common.OPTIONS["val"], "val:val_freq 4 instead of nothing."),
}


def test_every_difference_is_reported_in_one_line(here: Path) -> None:
    assert common.train(here, {**PLAIN, "train:total_iter": 2}) == 0
    changes = {key: value for key, (value, _) in CHANGES.items()}
    assert common.train(here, {**PLAIN, **changes}, "--auto_resume") == 0
    lines = re.findall(r"WARNING: Resuming with (.*)", common.log_of(here))
    for text in [text for _, text in CHANGES.values()] + ["global_batch 3 instead"]:
        assert sum(text in line for line in lines) == 1, text
    # The same option file again has nothing to report; nor have names and paths.
    again = {**PLAIN, **changes, "manual_seed": 3, "logger:print_freq": 2}
    again |= {"name": "other", "train:total_iter": 3}
    again |= {"path:resume_state": "experiments/run/training_states/3.state"}
    assert common.train(here, again) == 0
    assert "Resuming with" not in common.log_of(here, "other")


def test_a_schedule_shorter_than_the_run_is_refused_at_its_start(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    short = scheduler("OneCycleLR", max_lr=0.01, total_steps=2)
    assert common.train(here, {**PLAIN, **short}) == 2
    assert "train:scheduler:total_steps to be at least" in capfd.readouterr().err
    assert not (here / "experiments").exists()
