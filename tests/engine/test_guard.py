"""Steps that are not finite: skipped, taken back, and at last the end of the run."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import engine_common as common
import pytest
import torch
from model_common import NotFinite, batch, model, run
from safetensors import safe_open

from paragon_archs.cli import basicsr


def test_three_bad_iterations_lose_three_steps_and_nothing_else(here: Path) -> None:
    """A loss made NaN at 10 to 12: the other steps are those of a run without them."""
    bad, good = model(here), model(here)
    bad.net_g.register_forward_hook(NotFinite(range(10, 13)))
    for number in range(1, 16):
        data = batch(2, seed=number)
        bad.update_learning_rate(number)
        bad.feed_data(data)
        bad.optimize_parameters(number)
        if number not in (10, 11, 12):
            good.update_learning_rate(number)
            good.feed_data(data)
            good.optimize_parameters(number)
    assert bad.guard.total == 3 and bad.guard.in_a_row == 0
    for name in ("net_g", "net_g_ema"):
        state = getattr(good, name).state_dict()
        for key, value in getattr(bad, name).state_dict().items():
            assert torch.equal(value, state[key]), key


def test_weights_that_went_bad_come_back(here: Path) -> None:
    one = model(here, {"train:nonfinite": {"restore_after": 2}})
    run(one, batch(2), 3)
    one.guard.remember()
    good = copy.deepcopy(one.net_g.state_dict())
    with torch.no_grad():
        one.net_g.conv_in.weight.fill_(float("inf"))
    run(one, batch(2), 2)
    assert all(torch.equal(v, good[k]) for k, v in one.net_g.state_dict().items())
    run(one, batch(2))
    assert one.guard.in_a_row == 0 and math.isfinite(one.log_dict["l_l1"])


def test_nan_for_ever_stops_without_a_bad_checkpoint(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "train:total_iter": 100,
        "train:optim_g:lr": 1e30,
        "train:nonfinite": {"restore_after": 3, "stop_after": 7},
        "logger:save_checkpoint_freq": 1,
    }
    common.write_options(here / "o.yml", changes)
    assert basicsr.main(["train", "-opt", "o.yml"]) == 1
    err = capfd.readouterr().err
    assert "error: Expected finite" in err and "Traceback" not in err
    files = list((here / "experiments/run").rglob("*.safetensors"))
    states = list((here / "experiments/run").rglob("*.state"))
    for file in files:
        with safe_open(file, "pt") as opened:
            assert all(opened.get_tensor(k).isfinite().all() for k in opened.keys())
    for file in states:
        nets = torch.load(file, weights_only=True)["networks"]
        assert all(t.isfinite().all() for net in nets.values() for t in net.values())
