"""A training step that nobody waits for, and what the host reads of it later."""

from __future__ import annotations

import contextlib

import pytest
import torch
from common import image
from engine_common import GAN
from model_common import NotFinite, batch, model, options, run
from torch import nn

from paragon_archs.config.errors import TrainingError
from paragon_archs.engine.guard import Guard, finite_flag
from paragon_archs.engine.precision import set_up_products
from paragon_archs.engine.resuming import load_optimizer
from paragon_archs.engine.verdict import Losses, Verdict
from paragon_archs.models.paragon_gan_model import ParagonGANModel
from paragon_archs.models.paragon_model import ParagonModel
from paragon_archs.optim.optimizers import FUSED, OPTIMIZERS, fused
from paragon_archs.utils.products import full_products
from paragon_archs.utils.resize import imresize

FUSED_ADAM = {"train:optim_g": {"type": "Adam", "lr": 1e-3, "fused": True}}
LOSSES = [
    {"type": "L1Loss"},
    {"type": "MSSSIMLoss"},
    {"type": "FocalFrequencyLoss"},
    {"type": "LumaLoss"},
    {"type": "PSNRLoss", "luma": True},
    {"type": "FeatureBoundLoss", "weight": 1e-3, "side": 8},
]
RUNS = {
    "plain": {},
    "losses": {"train:losses": LOSSES},
    "clipped": {"train:grad_clip": 0.1, "train:accum_iter": 2},
    "gan": GAN,
}


class Takes(torch.optim.SGD):
    """Stands in for a fused optimizer: it takes the flag, without a look at it."""

    def __init__(self, params, **_):
        super().__init__(params, lr=1e-3, foreach=False)
        self._step_supports_amp_scaling = True
        self.flags: list[torch.Tensor] = []

    def step(self, closure=None):
        self.flags.append(vars(self)["found_inf"])
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(parameter.grad, alpha=-1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_a_step_waits_for_nothing(name, here, monkeypatch):
    """torch's meta device has no values: whoever waits for one is an error there."""
    changes = RUNS[name]
    monkeypatch.setattr(
        ParagonModel, "optimizer_of", lambda _, net, __: Takes(net.parameters())
    )
    monkeypatch.setattr(ParagonModel, "skips_on_device", lambda *_: True)
    # The meta device has none.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    judged = []
    monkeypatch.setattr(
        ParagonModel, "_judge", lambda _, optimizer: judged.append(optimizer)
    )
    kind = ParagonGANModel if name == "gan" else ParagonModel
    one = kind(options(here, changes))
    one.device = torch.device("meta")
    nets = [net for attribute, net in vars(one).items() if attribute[:4] == "net_"]
    for part in (*nets, one.criteria, *filter(None, [getattr(one, "cri_gan", None)])):
        part.to("meta")
    one.optimizers.clear()
    one.setup_optimizers()
    side = 32 if name in ("losses", "gan") else 8
    data = {
        "lq": image(4, 3, side, side).to("meta"),
        "gt": image(4, 3, 2 * side, 2 * side).to("meta"),
    }
    run(one, data, 2)
    assert len(judged) == 2 * len(one.optimizers)
    for optimizer in one.optimizers:
        assert [flag.shape for flag in optimizer.flags] == [()] * 2
        assert not hasattr(optimizer, "found_inf")
    with pytest.raises((RuntimeError, NotImplementedError)):
        print(one.log_dict)  # at print_freq somebody does wait


def late(here, monkeypatch, changes=None):
    monkeypatch.setattr(ParagonModel, "skips_on_device", lambda *_: True)
    return model(here, FUSED_ADAM | (changes or {}))


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_bad_steps_are_skipped_before_anyone_knows(clip, here, monkeypatch):
    """The weights are those of a run without them; the counters a step behind."""
    changes = {"train:grad_clip": clip}
    bad, good = (late(here, monkeypatch, changes) for _ in range(2))
    bad.net_g.register_forward_hook(NotFinite(range(4, 6)))
    seen = []
    for number in range(1, 9):
        run(bad, batch(2, seed=number))
        seen.append(bad.guard.total)
        if number not in (4, 5):
            run(good, batch(2, seed=number))
    assert seen == [0, 0, 0, 0, 1, 2, 2, 2]
    bad.state_extras()
    assert bad.guard.in_a_row == 0
    state = good.net_g.state_dict()
    for key, value in bad.net_g.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_what_is_saved_knows_how_the_last_step_went(here, monkeypatch):
    one = late(here, monkeypatch)
    one.net_g.register_forward_hook(NotFinite(range(2, 3)))
    run(one, batch(2), 2)
    assert one.guard.total == 0
    assert one.state_extras()["guard"] == {"in_a_row": 1, "total": 1}


def test_weights_come_back_and_the_run_stops(here, monkeypatch):
    one = late(here, monkeypatch, {"train:nonfinite": {"restore_after": 2}})
    run(one, batch(2), 2)
    one.settle()
    one.guard.remember()
    good = {k: v.clone() for k, v in one.net_g.state_dict().items()}
    with torch.no_grad():
        one.net_g.conv_in.weight.fill_(float("inf"))
    run(one, batch(2), 3)
    assert all(torch.equal(v, good[k]) for k, v in one.net_g.state_dict().items())
    one.guard.stop_after = 1
    one.net_g.register_forward_hook(NotFinite(range(99)))
    with pytest.raises(TrainingError, match="in a row"):
        run(one, batch(2), 2)


@pytest.mark.parametrize("values", [(1.0, 2.0), (1.0, float("nan"))])
@pytest.mark.parametrize("gradient", [1.0, float("inf")])
@pytest.mark.parametrize("stops", [None, (0, 0), (1, 15), (2, 30)])
def test_one_message_says_all(values, gradient, stops):
    asked = None if stops is None else torch.tensor(stops, dtype=torch.float32)
    losses = Losses(["a", "b"], torch.tensor(values), asked)
    flag = finite_flag([torch.tensor([gradient]), torch.ones(2)])
    guard = Guard(1, 2, dict, lambda _: None)
    verdict = Verdict(losses, flag, 1, guard)
    fine = values[1] == 2 and gradient == 1
    assert bool(verdict.skip()) == (not fine) == (not verdict.finite())
    assert verdict.asked() == (15 if stops and stops[0] else 0)
    if not fine:
        assert verdict.what() == ("a gradient" if values[1] == 2 else "loss b")
    assert losses.numbers()["a"] == 1


def on_cuda():
    """What stands in for a weight there."""

    class Weight(nn.Parameter):
        is_cuda = True

    return [Weight(torch.ones(2))]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_are_fused_where_they_can(kind):
    assert fused(kind, [nn.Parameter(torch.ones(2))], {}) == {}
    assert fused(kind, on_cuda(), {}) == ({"fused": True} if kind in FUSED else {})
    assert fused(kind, on_cuda(), {"foreach": True}) == {}


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_low_resolution_side_is_made_in_float32(before, monkeypatch):
    """On a device that may take less; what stands around it stays."""
    given = torch.get_float32_matmul_precision()
    seen, cat = [], torch.cat

    def noted(*arguments, **named):
        seen.append(torch.get_float32_matmul_precision())
        return cat(*arguments, **named)

    monkeypatch.setattr(torch, "cat", noted)
    try:
        torch.set_float32_matmul_precision(before)
        imresize(torch.empty(1, 3, 8, 8, device="meta"), 0.5)
        with full_products(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == before
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(given)
    assert seen == ["highest"] * 2


@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_only_a_gpu_multiplies_otherwise(place, precision):
    cudnn = torch.backends.cudnn
    given = torch.get_float32_matmul_precision()
    before = given, cudnn.allow_tf32, cudnn.benchmark
    try:
        set_up_products(torch.device(place), precision)
        now = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(given)
        cudnn.allow_tf32, cudnn.benchmark = before[1:]
    wanted = precision, precision != "highest", True
    assert now == (before if place == "cpu" else wanted)


@pytest.mark.parametrize("saved", [None, True])
@pytest.mark.parametrize("here_", [None, True])
def test_moments_of_another_machine_are_taken(saved, here_):
    """Fused there and not here, or the other way round."""

    def stepped(weight, fused_):
        optimizer = torch.optim.Adam([weight], lr=1e-3, fused=fused_)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        return optimizer

    state = stepped(nn.Parameter(torch.ones(3)), saved).state_dict()
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=1e-3, fused=here_)
    load_optimizer(optimizer, state, {"lr"})
    assert optimizer.param_groups[0]["fused"] is here_
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert float(optimizer.state[weight]["step"]) == 2


@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("style", [0.0, 1.0])
def test_a_perceptual_loss_s_network_runs_in_mixed_precision(
    place, style, here, monkeypatch
):
    """On a GPU; a CPU's numbers stay, and so does the range of Gram matrices."""

    class Host(nn.Module):
        style_weight = style

    class Ours(nn.Module):
        pass

    module = "paragon_archs.models.paragon_model"
    monkeypatch.setattr(f"{module}.PerceptualLoss", Host)
    monkeypatch.setattr(f"{module}.VGGPerceptualLoss", Ours)
    one = model(here)
    mixed = contextlib.nullcontext()
    monkeypatch.setattr(one.precision, "autocast", lambda: mixed)
    one.device = torch.device(place)
    found = [one.autocast_of(loss) is mixed for loss in (Host(), Ours(), nn.L1Loss())]
    on_gpu = place == "cuda"
    assert found == [on_gpu and not style, on_gpu, False]
