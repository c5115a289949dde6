"""Weights that a run starts from, and those that it releases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from basicsr.archs import build_network
from common import randomise
from model_common import model
from safetensors import safe_open
from safetensors.torch import load_file

from paragon_archs import create
from paragon_archs.checkpoint import load_model
from paragon_archs.cli import basicsr


def test_released_weights_say_what_they_are(here: Path) -> None:
    common.write_options(here / "o.yml", {"logger:licence": "CC-BY-4.0"})
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    file = here / "experiments/run/models/net_g_latest.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["architecture"] == metadata["type"] == "ParagonSR"
    assert metadata["scale"] == "2" and metadata["iteration"] == "4"
    assert metadata["licence"] == "CC-BY-4.0" and metadata["weights"] == "average"
    assert '"num_feat": 8' in metadata["arguments"]
    state = torch.load(
        here / "experiments/run/training_states/4.state", weights_only=True
    )
    network = load_model(file).model
    for name, value in network.state_dict().items():
        assert torch.equal(value, state["networks"]["net_g_ema"][name])
    assert load_model(file).scale == 2


def test_starting_weights_of_every_kind(here: Path) -> None:
    net = randomise(create("ParagonSR", 2, num_feat=8, num_groups=1, num_blocks=1))
    weights = net.state_dict()
    contents = {
        "params": {"params": weights},
        "both": {"params": create_like(net), "params_ema": weights},
        "bare": weights,
        "lightning": {"state_dict": weights},
        "module": {"params": {f"module.{k}": v for k, v in weights.items()}},
    }
    for name, content in contents.items():
        torch.save(content, f"{name}.pth")
        path = {"pretrain_network_g": f"{name}.pth"}
        if name == "both":
            path["param_key_g"] = "params_ema"
        loaded = model(here, {"path": path}).net_g.state_dict()
        assert all(torch.equal(loaded[k], v) for k, v in weights.items()), name


@pytest.mark.parametrize("kind", ["ParagonSR", "MSRResNet"])
def test_weights_of_another_scale_lend_all_but_the_head(
    kind: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = {"ParagonSR": {"num_groups": 1, "num_blocks": 1}, "MSRResNet": {}}[kind]
    network = {"type": kind, "num_feat": 8, **own}
    if kind == "MSRResNet":
        network |= {"num_block": 2, "upscale": 4}
    network = {"network_g": network, "scale": 4}
    small = {"type": kind, **network["network_g"], "upscale": 2}
    if kind == "ParagonSR":
        small.pop("upscale")
        donor = create("ParagonSR", 2, num_feat=8, **own)
    else:
        donor = build_network(small)
    weights = {f"{k}": torch.rand_like(v) for k, v in donor.state_dict().items()}
    torch.save({"params": weights}, "x2.pth")
    data = {f"datasets:{d}:dataroot_lq": "data4/lr" for d in ("train", "val")}
    data |= {f"datasets:{d}:dataroot_gt": "data4/hr" for d in ("train", "val")}
    common.write_images(here / "data4", scale=4)
    start = {**network, **data, "val": ..., "train:optim_g:lr": 0.0}
    start |= {"train:ema_decay": 0, "path:pretrain_network_g": "x2.pth"}
    assert common.train(here, start) == 2
    err = capfd.readouterr().err
    assert "'path:pretrain_network_g'" in err
    if kind == "ParagonSR":  # a network of the pack has its scale
        assert "for scale 4, but got 'x2.pth', which holds a ParagonSR for scale 2" in (
            err
        )
        assert "path:pretrain_scale: any" in err
    assert common.train(here, {**start, "path:pretrain_scale": "any"}) == 0
    trained = load_file("experiments/run/models/net_g_latest.safetensors")
    same = {k for k, v in trained.items() if torch.equal(v, weights.get(k, v[:0]))}
    left = set(trained) - same
    assert len(same) > len(left) > 0
    line = re.search(
        r"tensors of \w+ from x2.pth; fresh are (.*)\.", common.log_of(here)
    )
    assert line is not None and set(line[1].split(", ")) == left


def test_weights_of_another_network_stay_refused_at_any_scale(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    donor = create("ParagonSR", 4, num_feat=16, num_groups=1, num_blocks=1)
    torch.save(donor.state_dict(), "wide.pth")
    path = {"path:pretrain_network_g": "wide.pth", "path:pretrain_scale": "any"}
    assert common.train(here, path) == 2
    assert "holds a ParagonSR (training form)" in capfd.readouterr().err


def create_like(net: Any) -> dict[str, torch.Tensor]:
    return create("ParagonSR", **net.hyperparameters).state_dict()
