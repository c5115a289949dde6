"""The pieces of the engine, each against plain torch or against its definition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from common import image
from model_common import batch, model, run
from safetensors import safe_open
from torch import nn

from paragon_archs.cli import basicsr
from paragon_archs.data.stream import SampleStream
from paragon_archs.engine.criteria import Criterion
from paragon_archs.engine.ema import Average
from paragon_archs.engine.precision import Precision
from paragon_archs.engine.stopping import EarlyStopping
from paragon_archs.optim.optimizers import OPTIMIZERS
from paragon_archs.optim.schedulers import build_scheduler, step_learning_rates

CPU = torch.device("cpu")


# Gradients -------------------------------------------------------------------------


def test_four_micro_batches_of_two_give_the_gradient_of_eight(here: Path) -> None:
    whole, parts = model(here), model(here, {"train:accum_iter": 4})
    data = {name: value.double() for name, value in batch(8).items()}
    for one in (whole, parts):
        one.net_g.double()
        one.feed_data(data)
    losses = [one.backward(1)["l_l1"] for one in (whole, parts)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
    for left, right in zip(
        whole.net_g.parameters(), parts.net_g.parameters(), strict=True
    ):
        assert left.grad is not None and right.grad is not None
        assert (left.grad - right.grad).abs().max() <= 1e-6 * left.grad.abs().max()


def test_clipping_limits_the_norm_of_the_gradient(here: Path) -> None:
    changes = {"train:grad_clip": 1e-3, "train:optim_g": {"type": "SGD", "lr": 1.0}}
    one = model(here, changes)
    before = [p.detach().clone() for p in one.net_g.parameters()]
    run(one, batch(2))
    moved = [
        (p.detach() - b).flatten()
        for p, b in zip(one.net_g.parameters(), before, strict=True)
    ]
    assert math.isclose(float(torch.cat(moved).norm()), 1e-3, rel_tol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"train:channels_last": False},
        {"train:compile": {"backend": "eager"}},
        {"train:optim_g": {"type": "Adam", "lr": 1e-3, "foreach": True}},
    ],
    ids=["contiguous", "compiled", "foreach"],
)
def test_how_it_computes_changes_nothing(here: Path, changes: dict[str, Any]) -> None:
    plain, other = model(here), model(here, changes)
    for one in (plain, other):
        run(one, batch(2), 3)
    state = other.net_g.state_dict()
    for name, value in plain.net_g.state_dict().items():  # compiling renames nothing
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)


def test_channels_last_is_the_layout_of_the_network(here: Path) -> None:
    weight = model(here).net_g.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


# Mixed precision -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_mixed_precision_trains_in_it_and_loses_in_float32(
    here: Path, name: str
) -> None:
    one = model(here, {"train:precision": name})
    seen = []
    one.net_g.conv_in.register_forward_hook(lambda *a: seen.append(a[-1].dtype))
    run(one, batch(2), 2)
    assert seen[0] == {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    assert one.output.dtype == torch.float32
    assert one.precision.scaler.is_enabled() == (name == "fp16")
    assert next(one.net_g.parameters()).dtype == torch.float32


def test_precision_falls_back_where_the_device_lacks_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU without bf16, as far as a machine without any can show."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    precision = Precision("bf16", torch.device("cuda"))
    assert precision.name == "fp32"
    assert len(caplog.messages) == 1 and "using fp32" in caplog.messages[0]


def test_a_loss_scale_that_is_too_large_is_no_bad_step(here: Path) -> None:
    one = model(here, {"train:precision": "fp16"})
    one.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = one.net_g.conv_in.weight.detach().clone()
    run(one, batch(2))
    assert one.guard.total == 0
    assert one.precision.scaler.get_scale() == 2.0**119
    assert torch.equal(one.net_g.conv_in.weight, before)


# Average ---------------------------------------------------------------------------


def test_average_follows_weights_and_buffers_with_a_warm_decay() -> None:
    net: Any = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(net, decay=0.99)
    expected = net[0].weight.detach().clone().double()
    for step in range(30):
        with torch.no_grad():
            net[0].weight += 0.1
        net(image(2, 1, 4, 4, seed=step))
        decay = min(0.99, (1 + step) / (10 + step))
        assert average.next_decay() == decay
        expected = decay * expected + (1 - decay) * net[0].weight.detach().double()
        average.update(net)
    followed: Any = average.network
    torch.testing.assert_close(followed[0].weight.double(), expected)
    assert torch.equal(followed[1].running_mean, net[1].running_mean)
    assert int(followed[1].num_batches_tracked) == 30
    assert not any(p.requires_grad for p in followed.parameters())


# Rates -----------------------------------------------------------------------------


def rates(kind: str, iterations: int, warmup: int = -1, **arguments: Any) -> list:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_scheduler(kind, optimizer, iterations, 4, **arguments)
    found = []
    for number in range(1, iterations + 1):
        step_learning_rates([optimizer], [scheduler], number, warmup)
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    return found


def test_warm_up_reaches_the_rate_and_keeps_milestones() -> None:
    found = rates("MultiStepLR", 8, 4, milestones=[6], gamma=0.5)
    assert found == [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5]
    # A milestone inside the warm-up counts as soon as the warm-up is over.
    found = rates("MultiStepLR", 6, 4, milestones=[2], gamma=0.5)
    assert found == [0.25, 0.5, 0.75, 0.5, 0.5, 0.5]


def test_warm_up_without_a_schedule_reaches_the_rate() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    found = []
    for number in range(1, 5):
        step_learning_rates([optimizer], [], number, 3)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([2 / 3, 4 / 3, 2, 2])


def test_schedules() -> None:
    cosine = rates("CosineAnnealingLR", 5, eta_min=0.0)
    expected = [(1 + math.cos(math.pi * i / 5)) / 2 for i in range(5)]
    assert cosine == pytest.approx(expected)
    # After its last period the host's crashes.
    restart = rates(
        "CosineAnnealingRestartLR", 6, periods=[2, 2], restart_weights=[1, 1]
    )
    assert restart[4:] == pytest.approx([0.0, 0.0])
    assert rates("StepEpochLR", 9, epochs=1, gamma=0.5) == [1] * 4 + [0.5] * 4 + [0.25]
    assert rates("ExponentialLR", 3, gamma=0.5) == [1, 0.5, 0.25]
    with pytest.raises(ValueError, match="scheduler's type"):
        rates("Cosine", 3)


@pytest.mark.parametrize(
    "kind",
    [k for k in OPTIMIZERS if k not in ("SparseAdam", "Muon", "LBFGS")],
)
def test_every_optimizer_of_torch_trains(here: Path, kind: str) -> None:
    one = model(here, {"train:optim_g": {"type": kind, "lr": 1e-3}})
    before = one.net_g.conv_in.weight.detach().clone()
    run(one, batch(1))
    assert not torch.equal(one.net_g.conv_in.weight, before)


@pytest.mark.parametrize(
    "kind", [k for k in ("SparseAdam", "Muon", "LBFGS") if hasattr(torch.optim, k)]
)
def test_an_optimizer_that_cannot_train_convolutions_is_refused(
    kind: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert common.train(here, {"train:optim_g": {"type": kind, "lr": 1e-3}}) == 2
    errors = [e for e in capfd.readouterr().err.splitlines() if "error: " in e]
    assert len(errors) == 1 and kind in errors[0]
    assert not (here / "experiments").exists()


# Losses ----------------------------------------------------------------------------


def test_weight_start_and_ramp_of_a_loss() -> None:
    loss = Criterion(nn.L1Loss(), "l1", weight=2.0, start_iter=3, ramp_iter=4)
    found = [loss.weight_at(i) for i in range(1, 10)]
    assert found == [0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    x = torch.zeros(1)
    assert loss(x, x + 1, 3) == {}
    assert float(loss(x, x + 1, 5)["l_l1"]) == 1.0


def test_losses_of_the_list_and_of_the_hosts_sections_add_up(here: Path) -> None:
    one = model(
        here,
        {
            "train:pixel_opt": {"type": "L1Loss", "loss_weight": 0.5},
            "train:losses": [
                {"type": "L1Loss"},
                {"type": "L1Loss", "weight": 3.0},
                {"type": "MSELoss", "name": "square", "start_iter": 1},
            ],
        },
    )
    run(one, batch(2), 2)
    assert list(one.log_dict) == ["l_pix", "l_l1", "l_l12", "l_square"]
    log = one.log_dict
    assert log["l_l1"] == pytest.approx(2 * log["l_pix"], rel=1e-5)
    assert log["l_l12"] == pytest.approx(3 * log["l_l1"], rel=1e-5)


def test_no_loss_at_all_is_an_error(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for losses in (..., []):
        assert common.train(here, {"train:losses": losses}) == 2
        assert "Expected at least one loss, but got none" in capfd.readouterr().err
    assert not Path("experiments").exists()
    late = [{"type": "L1Loss", "start_iter": 3}]
    assert common.train(here, {"train:losses": late}) == 1
    err = capfd.readouterr().err
    assert "error: Expected at least one loss to count" in err
    assert "Traceback" not in err


# Guard -----------------------------------------------------------------------------


# Stopping and best -----------------------------------------------------------------


def test_early_stopping_counts_validations_without_improvement() -> None:
    rule = EarlyStopping(patience=2, better="higher", min_delta=0.1)
    values = [1.0, 2.0, 2.05, 2.2, 2.1, float("nan"), 2.0]
    waits = []
    for value in values:
        rule.update(value)
        waits.append(rule.waited)
    assert waits == [0, 0, 1, 0, 1, 1, 2]
    assert rule.done and rule.best == 2.2
    lower = EarlyStopping(1, "lower")
    for value in (3.0, 2.0):
        lower.update(value)
    assert not lower.done


def test_stops_and_keeps_the_best_when_the_metric_rises_and_falls(here: Path) -> None:
    """An optimizer that maximises its loss from iteration 30 on spoils the network."""
    changes = {
        "train:total_iter": 400,
        "train:ema_decay": 0,
        "train:optim_g:lr": 5e-3,
        "train:losses": [
            {"type": "L1Loss"},
            {"type": "L1Loss", "weight": -3.0, "start_iter": 30, "name": "against"},
        ],
        "val:val_freq": 10,
        "val:early_stopping": {"metric": "psnr", "patience": 3},
        "logger:save_checkpoint_freq": 10,
    }
    common.write_options(here / "o.yml", changes)
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    log = common.log_of(here)
    folder = here / "experiments/run"
    state = max((folder / "training_states").glob("*.state"), key=lambda p: int(p.stem))
    saved = torch.load(state, weights_only=True)
    best = saved["best_metric_results"]["few"]["psnr"]
    stopped = saved["iter"]
    assert "stopping early" in log
    assert 30 <= best["iter"] <= 40 and stopped == best["iter"] + 30
    assert saved["position"]["stopping"] == {"best": best["val"], "waited": 3}
    with safe_open(folder / "models/net_g_best_few_psnr.safetensors", "pt") as opened:
        metadata = opened.metadata()
    assert metadata["iteration"] == str(best["iter"])


# Released weights ------------------------------------------------------------------


# The stream ------------------------------------------------------------------------


def test_stream_is_complete_shared_and_seeded() -> None:
    stream = SampleStream(5, 3, seed=1)
    indices = [i for n in range(5) for i, _ in stream.batch_of(n)]
    for epoch in range(3):
        assert sorted(indices[5 * epoch : 5 * epoch + 5]) == [0, 1, 2, 3, 4]
    assert indices[:5] != indices[5:10] or indices[5:10] != indices[10:15]
    seeds = [s for n in range(50) for _, s in stream.batch_of(n)]
    assert len(set(seeds)) == 150
    halves = [SampleStream(5, 3, seed=1, world=2, rank=r) for r in range(2)]
    double = SampleStream(5, 6, seed=1)
    for n in range(4):
        assert halves[0].batch_of(n) + halves[1].batch_of(n) == double.batch_of(n)
    assert SampleStream(5, 3, seed=2).batch_of(0) != stream.batch_of(0)
    assert stream.epoch_of(1) == 0 and stream.epoch_of(2) == 1
    with pytest.raises(ValueError, match="hold images"):
        SampleStream(0, 1, 0)
