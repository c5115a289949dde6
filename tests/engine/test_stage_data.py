"""Stages with data, losses, rates and schedules of their own, and what they keep."""

from __future__ import annotations

import engine_common as common
import pytest
import torch
from safetensors.torch import load_file

from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

SQUARED = [{"type": "MSELoss"}, {"type": "LumaLoss", "criterion": "l2"}]
BOUND = {"type": "FeatureBoundLoss", "side": 12, "feature_limit": 0.1}
STAGES = [
    {
        "name": "level",
        "iterations": 4,
        "warmup_iter": 2,
        "start_values": {"*.gamma": 0.2},
    },
    {
        "name": "fall",
        "iterations": 3,
        "keep_optimizer": True,
        "data": {"gt_size": 24, "batch_size_per_gpu": 1},
        "losses": [*SQUARED, {**BOUND, "weight": 1e-4}],
        "scheduler": {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.4},
    },
    {
        "name": "border",
        "iterations": 3,
        "keep_optimizer": True,
        "lr": 1e-3,
        "merge_head": False,
        "loss_margin": 0,
        "ema_decay": 0.5,
        "data": {
            "type": "RestorationImageDataset",
            "dataroot_gt": "data/hr",
            "gt_size": 16,
            "batch_size_per_gpu": 2,
            "jpeg_prob": 1.0,
        },
        "losses": SQUARED,
    },
]
STREAM = {
    "type": "ParagonSR2",
    "variant": "stream",
    "num_feat": 8,
    "num_groups": 1,
    "num_blocks": 2,
    "base_kernel": "mks2021",
}
STAGED = {
    "model_type": "ParagonStagedModel",
    "datasets:train:type": "HRImageDataset",
    "datasets:train:dataroot_lq": ...,
    "datasets:train:io_backend": ...,
    "datasets:train:cache_lq": True,
    "datasets:train:gt_scales": [1.0, 0.6],
    "datasets:train:by_area": True,
    "datasets:train:drawn_share": 0.2,
    "network_g": STREAM,
    "stages": STAGES,
    "train:total_iter": ...,
    "train:optim_g": {"type": "SOAP", "lr": 3e-3},
    "train:grad_clip": 0.5,
    "train:merge_head": True,
    "train:fit_head": True,
    "train:losses": [{"type": "L1Loss"}, {**BOUND, "weight": 1e-3}],
    "val:val_freq": 20,
    "logger:save_checkpoint_freq": 1,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.write_images(tmp_path / "data", count=3, side=64)
    return tmp_path


def train(here, changes=None, *flags):
    return common.train(here, {**STAGED, **(changes or {})}, *flags)


def rates_of(here):
    losses = common.losses_of(common.log_of(here))
    return {n: float(text.split(",")[0]) for n, text in losses.items()}


def test_every_key_of_a_stage_has_its_effect(here):
    assert train(here) == 0
    assert rates_of(here) == pytest.approx(
        {
            1: 1.5e-3,
            2: 3e-3,
            3: 3e-3,
            4: 3e-3,
            5: 3e-3,
            6: 2.4e-3,
            7: 1.8e-3,
            8: 1e-3,
            9: 1e-3,
            10: 1e-3,
        }
    )
    lines = common.losses_of(common.log_of(here))
    for iteration, names in {
        3: ("l_l1", "l_featurebound"),
        6: ("l_mse", "l_luma", "l_featurebound"),
        9: ("l_mse", "l_luma"),
    }.items():
        assert [w for w in lines[iteration].split() if w.startswith("l_")] == [
            f"{name}:" for name in names
        ]
    # One optimizer from the first iteration to the last, and one average.
    last = common.state_of(here, 10)
    steps = {s["step"] for s in last["optimizers"][0]["state"].values()}
    assert steps == {10} and last["extras"]["average_updates"] == 10
    # A decay of 0.5: the average lies half way to the weights of the last step.
    before = common.state_of(here, 9)["networks"]["net_g_ema"]["conv_in.weight"]
    after = last["networks"]["net_g_ema"]["conv_in.weight"]
    trained = last["networks"]["net_g"]["conv_in.weight"]
    torch.testing.assert_close(after, (before + trained) / 2)
    assert list(last["networks"]["net_g"]) == list(last["networks"]["net_g_ema"])


@pytest.mark.parametrize("stop", [3, 4, 6, 8])  # in stages, and between two
def test_resume_is_exact(here, stop):
    assert train(here) == 0
    straight, log = common.state_of(here, 10), common.losses_of(common.log_of(here))
    for path in list((here / "experiments/run").rglob("*.state")):
        if int(path.stem) > stop:
            path.unlink()
    for path in (here / "experiments/run").glob("train_*.log"):
        path.unlink()
    assert train(here, None, "--auto_resume") == 0
    resumed = common.losses_of(common.log_of(here))
    assert resumed == {n: text for n, text in log.items() if n > stop}
    for name, tensors in common.state_of(here, 10)["networks"].items():
        for key, value in tensors.items():
            assert torch.equal(value, straight["networks"][name][key]), (name, key)


def test_a_run_starts_from_a_shipped_model_by_its_name(here):
    network = {"type": "paragonsr2_realtime", "base_kernel": "mks2021"}
    changes = {
        "network_g": network,
        "path:pretrain_network_g": "paragonsr2_realtime_x2",
        "stages": [{"name": "still", "iterations": 1, "lr": 0.0}],
        "train:fit_head": False,
        "train:losses": [{"type": "L1Loss"}],
        "train:ema_decay": 0,
    }
    assert train(here, changes) == 0
    from paragon_archs.weights import resolve

    shipped = load_file(resolve("paragonsr2_realtime_x2"))
    made = load_file(here / "experiments/run/models/net_g_latest.safetensors")
    for name, value in made.items():
        assert torch.equal(value, shipped[name]), name


def test_mistakes_are_said_before_the_first_iteration(here, capsys):
    def second(**changes):
        return {"stages": [STAGES[0], {**STAGES[1], **changes}]}

    cases = [
        ({"stages": STAGES[1:]}, "Expected a stage before 'fall'"),
        (second(train=["body.*"]), "to train what the stage before trains, but got"),
        (second(data={"gt_sise": 8}), "Did you mean gt_size?"),
        (second(data={"gt_size": 25}), "25"),
        (second(data={"gt_size": 90}), "Lower gt_size"),
        (second(losses=[{"type": "L3Loss"}]), "L3Loss"),
        (second(scheduler={"type": "LinaerLR"}), "LinearLR"),
        ({"train:loss_margin": 0}, "loss_margin to be at least 1 with"),
        (
            {
                "network_g": {"type": "ResShuffle"},
                "stages": [{"name": "only", "iterations": 1}],
            },
            "for train:merge_head, but got 'ResShuffle'",
        ),
        ({"path:pretrain_network_g": "paragonsr2_realtime_x9"}, "realtime_x9"),
    ]
    for number, (changes, text) in enumerate(cases):
        assert train(here, {**changes, "name": f"run{number}"}) == 2, text
        assert text in capsys.readouterr().err
